"""``slide``: the kernel slides over your input, and every number of every step is on the screen.

The fifteen animations of Dumoulin and Visin's "A guide to convolution arithmetic for deep learning" are fifteen calls
of this function; so is any other convolution, on your own numbers or picture.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentValueError, choices
from ..geometry import Padding, PerAxis
from .save import Animation
from .slide_draw import Scene
from .slide_scenes import GatherScene, StampScene
from .theme import Theme, theme_of
from .trace import Trace, flat

__all__ = ["generated", "slide"]

Array = NDArray[Any]

MOST_CHANNELS = 4
"""Input or output channels that can be seen side by side."""
Method = Literal["gather", "stamp"]


def slide(
    x: ArrayLike | int | tuple[int, ...] = (7, 7),
    kernel: ArrayLike | int | tuple[int, ...] = (3, 3),
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    *,
    bias: ArrayLike | None = None,
    padding_mode: str = "zeros",
    transposed: bool = False,
    output_padding: PerAxis = 0,
    method: Method = "gather",
    seed: int = 0,
    theme: Theme | str = "light",
    title: str | None = None,
    seconds: float | None = None,
    max_frames: int = 120,
) -> Animation:
    """An animation of the kernel sliding over the input, with its arithmetic.

    Args:
        x: the input: an array (H, W), (C, H, W), (W,) or (C, W); or a size to fill with small integers, an int (a
            square) or a tuple such as ``(5, 7)`` or ``(3, 5, 7)`` with channels.
        kernel: the same for the kernel: (kh, kw), (k,) or with channels (K, C / groups, kh, kw).
        stride, padding, dilation, groups, padding_mode: as in :func:`starconv.conv2d`.
        bias: one value per output channel.
        transposed: the transposed convolution, with the arguments of :func:`starconv.conv_transpose2d`.
        output_padding: of a transposed convolution.
        method: how a transposed convolution is shown: "gather" (the input is stretched by zeros and padded, and the
            kernel slides over it turned over, as in the guide) or "stamp" (each input element stamps its kernel onto
            the output).
        seed: of generated numbers.
        theme: "light" or "dark".
        title: instead of the one that says kernel, stride, padding and sizes.
        seconds: how long each frame is shown; by default the whole takes about half a minute at most.
        max_frames: of more steps than this, as many are shown at even distances.

    Returns:
        An :class:`~starconv.view.save.Animation`: ``.save("slide.gif")`` (or .html, .mp4, .png, .svg, .pdf), and
        ``.data`` is the :class:`~starconv.view.trace.Trace`.

    Raises:
        ArgumentValueError, ArgumentTypeError: as the convolution itself; three spatial axes; more channels than fit.
        MissingPackageError: matplotlib is not installed.

    >>> animation = slide((5, 5), (3, 3), stride=2, padding=1)
    >>> len(animation), animation.description
    (9, '3×3 kernel, stride 2, padding 1: 5×5 → 3×3')
    """
    look = theme_of(theme)
    if method not in ("gather", "stamp"):
        raise ArgumentValueError("method", method, choices(("gather", "stamp")))
    if method == "stamp" and not transposed:
        raise ArgumentValueError(
            "method", method, "'gather' unless transposed=True: only transposed convolutions stamp"
        )
    values, weights = generated(x, kernel, groups, transposed=transposed, seed=seed)
    trace = flat(
        Trace.of(
            values,
            weights,
            bias,
            stride,
            padding,
            dilation,
            groups,
            padding_mode=padding_mode,
            transposed=transposed,
            output_padding=output_padding,
        )
    )
    for name, array in (("x", trace.x), ("kernel", trace.output)):
        if not 1 <= len(array) <= MOST_CHANNELS:
            raise ArgumentValueError(name, array, f"1 to {MOST_CHANNELS} channels in and out, to be seen side by side")
    if not trace.output.size:
        raise ArgumentValueError("x", trace.x, "an output of at least one element")
    steps = trace.x.size if method == "stamp" else len(trace)
    count = max(min(steps, max_frames), 1)
    numbers = np.unique(np.linspace(0, steps - 1, count).round().astype(int)).tolist()
    description = title or trace.describe()
    scene: Scene = (StampScene if method == "stamp" else GatherScene)(trace, look, description, numbers)

    def player() -> str:
        from .player import player_page

        return player_page(trace, title=description, theme=look.name, stamps=method == "stamp")

    return Animation(
        scene.canvas.figure,
        scene.draw,
        len(numbers),
        seconds=min(max(24 / len(numbers), 0.08), 0.9) if seconds is None else seconds,
        player=player,
        description=description,
        data=trace,
    )


def generated(
    x: ArrayLike | int | tuple[int, ...],
    kernel: ArrayLike | int | tuple[int, ...],
    groups: int = 1,
    *,
    transposed: bool = False,
    seed: int = 0,
) -> tuple[ArrayLike, ArrayLike]:
    """Input and kernels, where a size is given instead of one of them filled with small integers that `seed` decides.

    >>> x, kernel = generated((2, 3), (1, 2))
    >>> x.shape, kernel.shape
    ((2, 3), (1, 2))
    """
    random = np.random.default_rng(seed)
    size, taps = _size(x), _size(kernel)
    if taps is None:
        axes = np.ndim(kernel)
        spatial = axes if axes <= 2 else axes - 2
    elif len(taps) == 1 and isinstance(kernel, int):
        given = len(size) if size is not None else np.ndim(x)
        spatial = min(given, 2) if not isinstance(x, int) else 2
        taps = taps * spatial
    else:
        spatial = len(taps) if len(taps) <= 2 else len(taps) - 2
    if size is not None:
        x = random.integers(0, 4, size * spatial if isinstance(x, int) else size)
    if taps is not None:
        shape = np.shape(x)
        channels = shape[-spatial - 1] if len(shape) > spatial else 1
        if len(taps) == spatial and channels > 1:
            # One kernel that reads all channels, or with groups one per group.
            ends = (channels, 1) if transposed else (groups, channels // max(groups, 1))
            taps = (*ends, *taps)
        kernel = random.integers(-1, 3, taps)
    return x, kernel


def _size(value: object) -> tuple[int, ...] | None:
    """`value` as a size, if it is one: an int or a tuple of ints (lists and arrays are data)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    if isinstance(value, tuple) and value and all(isinstance(n, int) and not isinstance(n, bool) for n in value):
        return value
    return None
