"""VGG-16, SqueezeNet 1.1 and MobileNetV2 with torchvision's names of layers and weights.

Sources: K. Simonyan and A. Zisserman, arXiv:1409.1556, configuration D; F. Iandola et al., arXiv:1602.07360, in version
1.1 of their repository; M. Sandler et al., arXiv:1801.04381, table 2; torchvision's models/vgg.py, squeezenet.py and
mobilenetv2.py.
"""

import numpy as np

from ..arguments import Seed, checked_count
from .blueprint import Blueprint, Weights
from .graph import Graph
from .network import Network
from .pretrained import Given, found_weights

__all__ = ["mobilenet_v2", "mobilenet_v2_graph", "squeezenet1_1", "squeezenet1_1_graph", "vgg16", "vgg16_graph"]


def vgg16(weights: Given = None, *, classes: int | None = None, seed: Seed = 0) -> Network:
    """VGG-16: 138 million weights, 15.5 billion multiply-adds; pictures of 224 x 224 only.

    Arguments and errors as :func:`~starconv.nets.resnet18`; there are no weights for it on the hub.
    """
    return Network(vgg16_graph(found_weights("vgg16", weights, seed), classes))


def squeezenet1_1(weights: Given = None, *, classes: int | None = None, seed: Seed = 0) -> Network:
    """SqueezeNet 1.1: 1.2 million weights, 0.35 billion multiply-adds, pictures of any size; as :func:`vgg16`."""
    return Network(squeezenet1_1_graph(found_weights("squeezenet1_1", weights, seed), classes))


def mobilenet_v2(weights: Given = None, *, classes: int | None = None, seed: Seed = 0) -> Network:
    """MobileNetV2: 3.5 million weights, 0.3 billion multiply-adds, pictures of any size; as :func:`vgg16`."""
    return Network(mobilenet_v2_graph(found_weights("mobilenet_v2", weights, seed), classes))


def vgg16_graph(weights: Weights, classes: int | None = None) -> Graph:
    """The graph of VGG-16: its input is "x" (N, 3, 224, 224), its output the scores "classifier.6"."""
    net = Blueprint("vgg16", weights)
    x = net.builder.input("x", np.float32, ("N", 3, 224, 224))
    channels, number = 3, 0
    for kernels, layers in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(layers):
            x = net.conv(x, f"features.{number}", (channels, kernels), 3, padding=1, bias=True)
            x = net.relu(x, f"features.{number + 1}")
            channels, number = kernels, number + 2
        x = net.max_pool(x, f"features.{number}", 2, 2)
        number += 1
    x = net.flatten(x, "flatten")
    x = net.relu(net.linear(x, "classifier.0", 512 * 7 * 7, 4096), "classifier.1")
    x = net.relu(net.linear(x, "classifier.3", 4096, 4096), "classifier.4")
    count = _classes(weights, "classifier.6.bias", classes)
    return net.graph(net.linear(x, "classifier.6", 4096, count), ("N", count))


def squeezenet1_1_graph(weights: Weights, classes: int | None = None) -> Graph:
    """The graph of SqueezeNet 1.1: its input is "x" (N, 3, H, W), its output the scores "flatten"."""
    net = Blueprint("squeezenet1_1", weights)
    x = net.builder.input("x", np.float32, ("N", 3, "H", "W"))
    x = net.relu(net.conv(x, "features.0", (3, 64), 3, 2, bias=True), "features.1")
    channels = 64
    for number in range(2, 13):
        name = f"features.{number}"
        if number in (2, 5, 8):
            x = net.max_pool(x, name, 3, 2, ceil=True)
            continue
        squeezed = {3: 16, 4: 16, 6: 32, 7: 32, 9: 48, 10: 48, 11: 64, 12: 64}[number]
        x = net.relu(net.conv(x, f"{name}.squeeze", (channels, squeezed), 1, bias=True), f"{name}.squeeze_activation")
        wide = 4 * squeezed
        small = net.conv(x, f"{name}.expand1x1", (squeezed, wide), 1, bias=True)
        large = net.conv(x, f"{name}.expand3x3", (squeezed, wide), 3, padding=1, bias=True)
        small = net.relu(small, f"{name}.expand1x1_activation")
        large = net.relu(large, f"{name}.expand3x3_activation")
        x = net.builder.add("Concat", small, large, name=f"{name}.cat", axis=1)
        channels = 2 * wide
    count = _classes(weights, "classifier.1.bias", classes)
    x = net.relu(net.conv(x, "classifier.1", (channels, count), 1, bias=True), "classifier.2")
    return net.graph(net.flatten(net.mean(x, "classifier.3"), "flatten"), ("N", count))


def mobilenet_v2_graph(weights: Weights, classes: int | None = None) -> Graph:
    """The graph of MobileNetV2: its input is "x" (N, 3, H, W), its output the scores "classifier.1"."""
    net = Blueprint("mobilenet_v2", weights)

    def layer(x: str, name: str, channels: tuple[int, int], kernel: int, stride: int = 1, groups: int = 1) -> str:
        x = net.conv(x, f"{name}.0", channels, kernel, stride, kernel // 2, groups=groups)
        return net.relu6(net.norm(x, f"{name}.1", channels[1]), f"{name}.2")

    x = net.builder.input("x", np.float32, ("N", 3, "H", "W"))
    x = layer(x, "features.0", (3, 32), 3, 2)
    channels, number = 32, 1
    for factor, after, repeats, first_stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for repeat in range(repeats):
            stride = 1 if repeat else first_stride
            name, wide, part = f"features.{number}", channels * factor, 0
            y = x
            if factor > 1:
                y, part = layer(y, f"{name}.conv.0", (channels, wide), 1), 1
            y = layer(y, f"{name}.conv.{part}", (wide, wide), 3, stride, groups=wide)
            y = net.norm(net.conv(y, f"{name}.conv.{part + 1}", (wide, after), 1), f"{name}.conv.{part + 2}", after)
            x = net.add(x, y, f"{name}.add") if stride == 1 and channels == after else y
            channels, number = after, number + 1
    x = layer(x, "features.18", (channels, 1280), 1)
    x = net.flatten(net.mean(x, "avgpool"), "flatten")
    count = _classes(weights, "classifier.1.bias", classes)
    return net.graph(net.linear(x, "classifier.1", 1280, count), ("N", count))


def _classes(weights: Weights, bias: str, classes: int | None) -> int:
    """How many classes the last layer tells apart: what the caller says, the weights have, or ImageNet's 1000."""
    return (weights.shape(bias) or (1000,))[0] if classes is None else checked_count("classes", classes)
