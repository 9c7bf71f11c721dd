"""Inductive bias, measured: how far a layer commutes with shifts, the dense layer it is, and what that is worth.

A convolution is a dense layer with most weights zero (locality) and the others shared, so that it commutes with shifts.
:func:`as_dense` writes it so, :func:`equivariance_error` measures the commuting, :func:`compare` what can be learned
with and without.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from . import nn
from .arguments import Array, Seed, as_array, checked_count, checked_number
from .data.digits import Split, digits
from .errors import ArgumentTypeError, ArgumentValueError, choices
from .geometry import PerAxis, per_axis
from .matrix import conv_matrix

if TYPE_CHECKING:
    from .view.save import Still
    from .view.theme import Theme

__all__ = ["Comparison", "Score", "as_dense", "compare", "equivariance_error"]

LARGEST_DENSE = 10**8
"""Weights of the largest dense layer that is made: 400 MB."""


def equivariance_error(
    f: Callable[[Array], ArrayLike],
    x: ArrayLike,
    shift: PerAxis,
    *,
    stride: PerAxis = 1,
    border: str = "zeros",
    margin: int = 0,
) -> float:
    """The largest |f(shift x) - shift f(x)|, relative to the largest |f(x)|: 0 for what commutes with the shift.

    Args:
        f: any function from arrays like `x` to arrays (..., H', W'): a layer, a network, a function.
        x: its input (..., H, W).
        shift: rows and columns, or one number for both; negative is up and left.
        stride: input elements from one output element to the next; must divide the shift.
        border: what comes in: "zeros", then only output elements that stay inside are compared; or "circular", what
            went out on the other side, then all are.
        margin: output elements from the border that f's own padding reaches, before the shift and after it; they are
            not compared.

    Raises:
        ArgumentValueError, ArgumentTypeError: naming the argument; also if nothing is left to be compared.

    >>> import starconv as sc
    >>> x = np.random.default_rng(0).random((1, 1, 12, 12))
    >>> edges = [[[[1.0, -1.0]]]]
    >>> equivariance_error(lambda v: sc.conv2d(v, edges), x, 3)
    0.0
    >>> ramp = np.arange(12.0)  # weights that depend on the place are not shared
    >>> equivariance_error(lambda v: v * ramp, x, 3) > 0.1
    True
    """
    array = as_array("x", x)
    if array.ndim < 2:
        raise ArgumentValueError("x", array, "shape (..., H, W)")
    if border not in ("zeros", "circular"):
        raise ArgumentValueError("border", border, choices(("zeros", "circular")))
    offsets = per_axis("shift", shift, 2, minimum=-(10**9))
    steps = per_axis("stride", stride, 2, minimum=1)
    margin = checked_count("margin", margin, 0)
    if any(offset % step for offset, step in zip(offsets, steps, strict=True)):
        raise ArgumentValueError(
            "shift", shift, f"multiples of the stride {steps}: between its steps there is no output"
        )
    plain = np.asarray(f(array))
    moved = np.asarray(f(_shifted(array, offsets, circular=border == "circular")))
    if plain.ndim < 2 or plain.shape != moved.shape:
        raise ArgumentTypeError("f", f, f"a function to arrays (..., H', W'); it gave the shape {plain.shape}")
    by = [offset // step for offset, step in zip(offsets, steps, strict=True)]
    rows, columns = (_compared(size, offset, margin, border) for size, offset in zip(plain.shape[-2:], by, strict=True))
    if not rows.any() or not columns.any():
        raise ArgumentValueError(
            "shift", shift, f"one that leaves something of the output {plain.shape[-2:]} to compare"
        )
    wide = plain.astype(np.float64)
    difference = moved - np.roll(wide, by, axis=(-2, -1))
    largest = float(np.abs(wide).max())
    error = float(np.abs(difference[..., rows, :][..., columns]).max())
    return error / largest if largest else error


def _compared(size: int, by: int, margin: int, border: str) -> Array:
    """Along one axis, which elements are the margin away from the border, now and before the shift."""
    place = np.arange(size)
    before = (place - by) % size if border == "circular" else place - by
    return (place >= margin) & (place < size - margin) & (before >= margin) & (before < size - margin)


def _shifted(x: Array, offsets: Sequence[int], *, circular: bool) -> Array:
    moved = np.roll(x, offsets, axis=(-2, -1))
    if not circular:
        for axis, by in zip((-2, -1), offsets, strict=True):
            came = np.moveaxis(moved, axis, 0)
            came[: max(by, 0)] = 0
            came[len(came) + min(by, 0) if -by < len(came) else 0 :] = 0
    return moved


def as_dense(layer: nn.Module, input_size: Sequence[int]) -> nn.Linear:
    """The dense layer that computes what a convolutional (or any other affine) layer does to flattened pictures.

    ``as_dense(layer, (C, H, W))(x.reshape(N, -1))`` is ``layer(x).reshape(N, -1)``. Of a convolution its weight is
    :func:`starconv.conv_matrix`, every entry of the kernel once per output position.

    Args:
        layer: a layer, or a network of layers, without anything like ReLU or maxima in it; in its present mode.
        input_size: of one picture, (C, H, W).

    Raises:
        ArgumentValueError: the layer is not affine, or the dense layer would have over 10^8 weights.

    >>> layer = nn.Conv2d(1, 2, 3, seed=0)
    >>> dense = as_dense(layer, (1, 6, 6))
    >>> dense, sum(p.value.size for p in layer.parameters())
    (Linear(in_features=36, out_features=32, bias=True), 20)
    """
    if not isinstance(layer, nn.Module):
        raise ArgumentTypeError("layer", layer, "a layer of starconv.nn")
    size = per_axis("input_size", tuple(input_size), len(input_size), minimum=1)
    output = layer.output_shape((1, *size))[1:]
    inputs, outputs = math.prod(size), math.prod(output)
    if inputs * outputs > LARGEST_DENSE:
        expected = f"a size for which the dense layer has at most {LARGEST_DENSE} weights, not {inputs} x {outputs}"
        raise ArgumentValueError("input_size", size, expected)
    parameters = layer.parameters()
    dtype = parameters[0].value.dtype if parameters else np.dtype(np.float32)
    if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        arguments = (layer.stride, layer.padding, layer.dilation, layer.groups)
        weight = conv_matrix(layer.weight, size, *arguments, padding_mode=layer.padding_mode).toarray()
        own = np.zeros(layer.out_channels) if layer.bias is None else layer.bias
        bias = np.repeat(own, outputs // layer.out_channels)
    else:
        weight, bias = _probed(layer, size, dtype)
    dense = nn.Linear(inputs, outputs, dtype=dtype, seed=0)
    dense.weight, dense.bias = weight, bias
    return dense


def _probed(layer: nn.Module, size: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Weight and bias of an affine layer, asked of it: the answer to 0, and to every unit vector without that."""
    inputs = math.prod(size)

    def ask(rows: Array) -> Array:
        return layer(rows.astype(dtype).reshape(-1, *size)).reshape(len(rows), -1)

    bias = ask(np.zeros((1, inputs)))[0]
    columns = [ask(np.eye(inputs)[start : start + 256]) - bias for start in range(0, inputs, 256)]
    weight: Array = np.concatenate(columns).T
    trial = np.random.default_rng(0).standard_normal((2, inputs))
    answer, wanted = ask(trial), trial @ weight.T + bias
    room = 1e-3 * (1 + np.abs(weight).sum(axis=1).max()) if dtype == np.float32 else 1e-9
    if not np.abs(answer - wanted).max() <= room * (1 + np.abs(trial).max()):
        raise ArgumentValueError("layer", layer, "an affine layer, without ReLU, maxima or dropout")
    return weight, bias


class Score(NamedTuple):
    """One network after learning from so many pictures; shares of test pictures that it gets right, over the seeds.

    Attributes:
        network: its name.
        parameters: how many numbers it learned.
        pictures: how many it learned from.
        lr: the learning rate that suited it.
        accuracy, accuracy_spread: of test pictures as they are: mean and standard deviation.
        shifted, shifted_spread: of test pictures shifted in eight directions.
    """

    network: str
    parameters: int
    pictures: int
    lr: float
    accuracy: float
    accuracy_spread: float
    shifted: float
    shifted_spread: float


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` measured; ``str`` makes a table of it, :meth:`figure` a drawing.

    Attributes:
        scores: one per number of pictures and network.
        shift, seeds: of the experiment.
        budget: how long each network learned, in words.
    """

    scores: tuple[Score, ...]
    shift: int
    seeds: tuple[int, ...]
    budget: str

    def figure(self, *, theme: "str | Theme" = "light") -> "Still":
        """The table as a drawing: :func:`starconv.view.bias_comparison`."""
        from .view import bias_comparison

        return bias_comparison(self, theme=theme)

    def __str__(self) -> str:
        table = [("pictures", "network", "parameters", "rate", "accuracy", f"shifted by {self.shift}")]
        for score in self.scores:
            plain, shifted = (
                f"{100 * mean:.1f} %" if math.isnan(spread) else f"{100 * mean:.1f} ± {100 * spread:.1f} %"
                for mean, spread in ((score.accuracy, score.accuracy_spread), (score.shifted, score.shifted_spread))
            )
            numbers = (str(score.pictures), score.network, str(score.parameters), f"{score.lr:g}")
            table.append((*numbers, plain, shifted))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table)


Maker = Callable[[int, tuple[int, int], int, Seed], nn.Module]


def _convolutional(channels: int, size: tuple[int, int], classes: int, seed: Seed) -> nn.Module:
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1, bias=False, seed=rng),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False, seed=rng),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (size[0] // 4) * (size[1] // 4), classes, seed=rng),
    )


def _dense(channels: int, size: tuple[int, int], classes: int, seed: Seed) -> nn.Module:
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * size[0] * size[1], 64, seed=rng),
        nn.ReLU(),
        nn.Linear(64, classes, seed=rng),
    )


NETWORKS: dict[str, Maker] = {"convolution": _convolutional, "dense": _dense}
"""What is compared unless the call says otherwise: two convolutions with pools, and a hidden layer of 64, which has a
few more numbers."""


RATES = (0.02, 0.05, 0.1)
"""Learning rates that every network may choose from."""


def compare(
    sizes: Sequence[int] = (50, 200, 1000),
    *,
    data: Split | None = None,
    networks: Mapping[str, Maker] | None = None,
    shift: int = 1,
    steps: int = 200,
    epochs: int | None = None,
    batch_size: int = 32,
    lr: float | Sequence[float] = RATES,
    seeds: Sequence[int] = (0, 1, 2),
    on_training: Callable[[int, int, str], None] = lambda done, total, words: None,
) -> Comparison:
    """Convolution against dense: the same pictures, steps and batches, at several numbers of pictures.

    Every picture gets a frame of `shift` zeros, so that it can be shifted without losing a pixel. Networks learn from
    unshifted pictures only. They are asked about the test pictures as they are, and shifted by `shift` in eight
    directions. Seeds decide which pictures are learned from, their order and the initial weights.

    The comparison is fair in what each network may spend: as many pictures and steps, and its own learning rate. Where
    `lr` names several, each network tries them at each number of pictures, with the first seed, on four fifths of the
    pictures it may learn from, and takes the one with the smallest loss on the last fifth. Test pictures play no part.

    Args:
        sizes: numbers of pictures to learn from.
        data: training and test pictures (N, C, H, W) with labels; default :func:`starconv.data.digits.digits`.
        networks: by name, functions of channels, (height, width), classes and a seed.
        shift: in pixels.
        steps: of SGD with momentum 0.9, at least; whole epochs.
        epochs: instead of steps, how often every picture is learned from, however few they are.
        batch_size: of these steps.
        lr: learning rate, or several to choose from.
        seeds: one training each.
        on_training: called before each training with the number of those done, of all, and what comes next.

    Returns:
        The scores; the same call gives the same ones.

    Raises:
        ArgumentValueError, ArgumentTypeError: naming the argument, its value and what was expected.
        TrainingError: a network did not learn at any rate.
    """
    split = digits() if data is None else data
    makers = NETWORKS if networks is None else networks
    shift, steps = checked_count("shift", shift), checked_count("steps", steps)
    batch_size = checked_count("batch_size", batch_size)
    rates = tuple(checked_number("lr", rate) for rate in (lr if isinstance(lr, Sequence) else (lr,)))
    for argument, values in (("sizes", sizes), ("seeds", seeds), ("networks", makers), ("lr", rates)):
        if not len(values):
            raise ArgumentValueError(argument, values, "at least one")
    for size in sizes:
        if checked_count("sizes", size) > len(split.train.images):
            raise ArgumentValueError("sizes", size, f"at most the {len(split.train.images)} pictures there are")
    frame = [(0, 0), (0, 0), (shift, shift), (shift, shift)]
    images, test = np.pad(split.train.images, frame), np.pad(split.test.images, frame)
    labels = split.train.labels
    classes = int(max(labels.max(), split.test.labels.max())) + 1
    moves = [(dy, dx) for dy in (-shift, 0, shift) for dx in (-shift, 0, shift) if dy or dx]
    trials = len(rates) if len(rates) > 1 else 0
    total, done = len(sizes) * len(makers) * (trials + len(seeds)), 0

    def learned(make: Maker, chosen: Array, seed: int, rate: float, words: str) -> nn.Module:
        """A network after its training on the chosen pictures."""
        nonlocal done
        on_training(done, total, words)
        done += 1
        network = make(images.shape[1], images.shape[2:], classes, seed)
        passes = -(-steps // -(-len(chosen) // batch_size)) if epochs is None else checked_count("epochs", epochs)
        optimizer = nn.SGD(network.parameters(), lr=rate, momentum=0.9)
        nn.fit(
            network,
            (images[chosen], labels[chosen]),
            epochs=passes,
            batch_size=batch_size,
            optimizer=optimizer,
            seed=seed,
            progress=False,
        )
        return network

    def best_rate(make: Maker, chosen: Array, words: str) -> float:
        """The learning rate after which pictures that were held back are told best."""
        held = chosen[: max(len(chosen) // 5, 1)]
        rest = chosen[len(held) :] if len(chosen) > 1 else chosen
        losses = []
        for rate in rates:
            try:
                network = learned(make, rest, seeds[0], rate, f"{words}, rate {rate:g}")
                losses.append(nn.evaluate(network, images[held], labels[held])[0])
            except nn.TrainingError:  # too large a rate, which is an answer
                losses.append(math.inf)
        return rates[int(np.argmin(losses))]

    scores = []
    for size in sizes:
        pictures = [np.random.default_rng([seed, size]).permutation(len(images))[:size] for seed in seeds]
        for name, make in makers.items():
            words = f"{size} picture{'s' * (size > 1)}, {name}"
            rate = best_rate(make, pictures[0], words) if trials else rates[0]
            plain, shifted = [], []
            for seed, chosen in zip(seeds, pictures, strict=True):
                network = learned(make, chosen, seed, rate, f"{words}, seed {seed}")
                plain.append(nn.evaluate(network, test, split.test.labels)[1])
                moved = [nn.evaluate(network, np.roll(test, by, (2, 3)), split.test.labels)[1] for by in moves]
                shifted.append(float(np.mean(moved)))
            count = sum(parameter.value.size for parameter in network.parameters())
            scores.append(Score(name, count, size, rate, *_mean_spread(plain), *_mean_spread(shifted)))
    on_training(total, total, "the table")
    budget = f"at least {steps} steps" if epochs is None else f"{epochs} epoch{'s' * (epochs > 1)}"
    return Comparison(tuple(scores), shift, tuple(seeds), f"{budget} of {batch_size} pictures each")


def _mean_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; NaN of one value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
