"""Which algorithm computes a layer and why, and how to keep its weights prepared."""

import numpy as np

import starconv as sc

plan = sc.plan("conv2d x=1x16x32x32 w=32x16x3x3 padding=1 bias relu")
print(plan.explain())

random = np.random.default_rng(2)
w = random.standard_normal((32, 16, 3, 3)).astype("float32")
b = random.standard_normal(32).astype("float32")
layer = plan.prepare(w, b)

out = np.empty((1, 32, 32, 32), "float32")
for _ in range(3):
    x = random.standard_normal((1, 16, 32, 32)).astype("float32")
    layer(x, out=out)
    assert np.array_equal(out, np.maximum(sc.conv2d(x, w, b, padding=1), 0))
