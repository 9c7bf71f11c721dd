"""A layer learns the horizontal-edge kernel back, from pictures and what that kernel answers to them."""

import numpy as np

import starconv as sc
from starconv import nn

wanted = np.array([[-1.0, -1, -1], [0, 0, 0], [1, 1, 1]])
train, _ = sc.data.shapes(64, size=16)
answers = sc.conv2d(train.images, wanted[np.newaxis, np.newaxis].astype("float32"))

layer = nn.Conv2d(1, 1, 3, bias=False, seed=0)
loss, optimizer = nn.MSELoss(), nn.SGD(layer.parameters(), lr=0.1, momentum=0.9)


def report(when: str) -> float:
    error = float(np.abs(layer.weight[0, 0] - wanted).max())
    print(f"{when}, largest error {error:.2g}:\n{np.round(layer.weight[0, 0], 3)}")
    return error


report("before")
for _ in range(60):  # epochs
    for start in range(0, 64, 16):
        batch = slice(start, start + 16)
        value = loss(layer(train.images[batch]), answers[batch])
        optimizer.zero_grad()
        layer.backward_parameters(loss.backward())
        optimizer.step()
assert report(f"after 240 steps, loss {value:.1g}") < 0.01
