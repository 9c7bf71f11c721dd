"""ResNet-18, 34 and 50 with torchvision's names of layers and weights.

Source: K. He et al., "Deep residual learning for image recognition", arXiv:1512.03385, table 1; torchvision's
models/resnet.py, whose ResNet-50 has its strides in the 3 x 3 convolutions ("version 1.5").
"""

import numpy as np

from ..arguments import Seed, checked_count
from .blueprint import Blueprint, Weights
from .graph import Graph
from .network import Network
from .pretrained import Given, found_weights

__all__ = ["RESNETS", "resnet18", "resnet34", "resnet50", "resnet_graph"]

RESNETS = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
}
"""Blocks of each of the four stages, and whether they are bottlenecks: 1 x 1, 3 x 3 and 1 x 1 with 4 times as many."""


def resnet18(weights: Given = None, *, classes: int | None = None, seed: Seed = 0) -> Network:
    """ResNet-18: 11.7 million weights, 1.8 billion multiply-adds for a picture of 224 x 224.

    Args:
        weights: a file (.safetensors, .npz, .pth, .pt), arrays by torchvision's names, or "tv_in1k": torchvision's
            weights for ImageNet's 1000 classes, from the hub (timm/resnet18.tv_in1k), kept on disk from then on.
            None for random ones.
        classes: how many the last layer tells apart; by default what the weights have, or 1000.
        seed: decides random weights.

    Returns:
        The network: (N, 3, H, W) float32, as :func:`starconv.nets.preprocess` makes them, to scores (N, classes).

    Raises:
        FileContentError: the file holds no weights, or others: what is missing, unexpected or of another shape.
        ArgumentValueError: the same of arrays by name; or a name of weights that is not known.
        MissingPackageError, DownloadError: weights from the hub, without the package for it or without a network.

    >>> import numpy as np, starconv as sc
    >>> network = sc.nets.resnet18(seed=0)
    >>> network(np.zeros((1, 3, 64, 64), np.float32)).shape
    (1, 1000)
    """
    return _resnet("resnet18", weights, classes, seed)


def resnet34(weights: Given = None, *, classes: int | None = None, seed: Seed = 0) -> Network:
    """ResNet-34: 21.8 million weights, 3.7 billion multiply-adds; arguments as :func:`resnet18`."""
    return _resnet("resnet34", weights, classes, seed)


def resnet50(weights: Given = None, *, classes: int | None = None, seed: Seed = 0) -> Network:
    """ResNet-50: 25.6 million weights, 4.1 billion multiply-adds; arguments as :func:`resnet18`."""
    return _resnet("resnet50", weights, classes, seed)


def _resnet(name: str, weights: Given, classes: int | None, seed: Seed) -> Network:
    return Network(resnet_graph(name, found_weights(name, weights, seed), classes))


def resnet_graph(name: str, weights: Weights, classes: int | None = None) -> Graph:
    """The graph of one of :data:`RESNETS`; its input is "x" (N, 3, H, W), its output the scores "fc"."""
    counts, bottleneck = RESNETS[name]
    net = Blueprint(name, weights)
    x = net.builder.input("x", np.float32, ("N", 3, "H", "W"))
    x = net.conv(x, "conv1", (3, 64), 7, 2, 3)
    x = net.norm(x, "bn1", 64)
    x = net.relu(x, "relu")
    x = net.max_pool(x, "maxpool", 3, 2, 1)
    channels = 64
    for stage, blocks in enumerate(counts):
        inside = 64 << stage
        after = 4 * inside if bottleneck else inside
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            x = _block(net, x, f"layer{stage + 1}.{block}", (channels, inside, after), stride)
            channels = after
    x = net.flatten(net.mean(x, "avgpool"), "flatten")
    classes = (weights.shape("fc.bias") or (1000,))[0] if classes is None else checked_count("classes", classes)
    return net.graph(net.linear(x, "fc", channels, classes), ("N", classes))


def _block(net: Blueprint, x: str, name: str, channels: tuple[int, int, int], stride: int) -> str:
    """Two 3 x 3 convolutions, or three with 1 x 1 around one, and the way around them."""
    before, inside, after = channels
    layers: tuple[tuple[tuple[int, int], int, int], ...]
    if after == inside:
        layers = (((before, inside), 3, stride), ((inside, after), 3, 1))
    else:
        layers = (((before, inside), 1, 1), ((inside, inside), 3, stride), ((inside, after), 1, 1))
    y = x
    for number, (sizes, kernel, step) in enumerate(layers, 1):
        y = net.conv(y, f"{name}.conv{number}", sizes, kernel, step, kernel // 2)
        y = net.norm(y, f"{name}.bn{number}", sizes[1])
        if number < len(layers):
            y = net.relu(y, f"{name}.relu" + (f"_{number - 1}" if number > 1 else ""))
    if stride > 1 or before != after:
        x = net.conv(x, f"{name}.downsample.0", (before, after), 1, stride)
        x = net.norm(x, f"{name}.downsample.1", after)
    return net.relu(net.add(y, x, f"{name}.add"), f"{name}.relu_{len(layers) - 1}")
