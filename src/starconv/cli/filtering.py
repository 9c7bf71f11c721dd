"""From one picture to its filtered picture: the convolution of every channel, and values turned into pixels again."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.depth import DEPTHS, Depth, quantise, white
from ..data.images import Image, to_grey
from ..errors import ArgumentValueError
from ..functional import conv2d
from ..geometry import Padding, PerAxis, convolution_axes

__all__ = ["BORDERS", "Filter", "Filtered"]

BORDERS = {
    "reflect": "symmetric",
    "grid-mirror": "symmetric",
    "mirror": "reflect",
    "nearest": "replicate",
    "wrap": "circular",
    "grid-wrap": "circular",
    "constant": "zeros",
    "grid-constant": "zeros",
    "zeros": "zeros",
}
"""Border modes by scipy.ndimage's names, as conv2d calls them (its "reflect", PyTorch's, is scipy's "mirror")."""


@dataclass(frozen=True, slots=True)
class Filtered:
    """A filtered picture, and what the user should know about how it was made."""

    image: Image
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """What is done to every picture of one call.

    The kernel is applied to each channel by itself, in float64. The responses are multiplied by `scale`; white times 1
    is white in every depth. With `signed`, grey stands for 0, and without a `scale` of its own each picture gets the
    one at which its strongest response is just not clipped.
    """

    kernel: NDArray[np.float64]
    stride: PerAxis = 1
    padding: Padding = "same"
    dilation: PerAxis = 1
    border: str = "reflect"
    grey: bool = False
    signed: bool = False
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.border not in BORDERS:
            raise ArgumentValueError("border", self.border, f"one of {', '.join(BORDERS)}")
        if self.scale is not None and not np.isfinite(self.scale):
            raise ArgumentValueError("scale", self.scale, "a finite number")
        # What is wrong for every picture is told once, before the first; this size has room for any kernel.
        convolution_axes((2**40, 2**40), self.kernel.shape, self.stride, self.padding, self.dilation)

    def apply(self, image: Image, depth: Depth | None = None) -> Filtered:
        """Filter `image`; the result has its depth, or `depth`.

        Raises:
            ArgumentValueError: the kernel, stride and padding leave no output for a picture of this size.
        """
        source = image.array
        if self.grey:
            source = to_grey(source)
        channels = [source] if source.ndim == 2 else [source[..., channel] for channel in range(source.shape[2])]
        dtype = image.array.dtype if depth in (None, image.depth) else DEPTHS[depth or image.depth]
        unit = white(dtype) / image.white
        # Grey is 128 of 255: what is left above it, 127, is what the strongest response may use on either side.
        middle = (0.5 if dtype.kind == "f" else white(dtype) // 2 + 1) if self.signed else 0.0
        span = white(dtype) - middle
        notes = []
        responses: list[NDArray[np.float64]] | None = None
        scale = 1.0 if self.scale is None else self.scale
        if self.signed and self.scale is None:
            # Only here are all responses needed at once: the scale is that of the whole picture, not of a channel.
            responses = [self._responses(channel) for channel in channels]
            strongest = max(_strongest(response) for response in responses)
            scale = span / (strongest * unit) if strongest > 0 else 1.0
        if self.signed:
            notes.append(
                f"grey {middle:g} is 0, scale {scale:.4g}: ±{span / (scale * unit):.4g} is black and white"
                if scale
                else f"grey {middle:g} is 0, scale 0"
            )
        elif scale != 1:
            notes.append(f"scale {scale:g}")
        pixels, below, above, not_numbers = [], 0, 0, 0
        for index, channel in enumerate(channels):
            response = self._responses(channel) if responses is None else responses[index]
            if scale * unit != 1:
                response *= scale * unit
            if middle:
                response += middle
            quantised = quantise(response, dtype)
            pixels.append(quantised.array)
            below, above = below + quantised.below, above + quantised.above
            not_numbers += quantised.not_numbers
        array = pixels[0] if source.ndim == 2 else np.stack(pixels, axis=-1)
        if below or above:
            notes.append(f"{below + above} of {array.size} values clipped ({below} below black, {above} above white)")
        if not_numbers:
            notes.append(f"{not_numbers} values that are not numbers became black")
        alpha = None if image.alpha is None else self._alpha(image.alpha, array.shape[:2])
        if alpha is not None and alpha.dtype != dtype:
            alpha = quantise(alpha * unit, dtype).array
        return Filtered(replace(image, array=array, alpha=alpha), tuple(notes))

    def _responses(self, channel: NDArray[Any]) -> NDArray[np.float64]:
        return self._convolved(channel.astype(np.float64), self.kernel)

    def _convolved(self, plane: NDArray[Any], kernel: NDArray[Any]) -> NDArray[Any]:
        result: NDArray[Any] = conv2d(
            plane[None],
            kernel[None, None],
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            padding_mode=BORDERS[self.border],
        )[0]
        return result

    def _alpha(self, alpha: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
        """The alpha of the pixel that is under the middle of the kernel, for every output pixel."""
        if self.padding == "same" and self.stride == 1 and alpha.shape == size:
            return alpha
        # The kernel that is 1 in the middle picks it, by the same geometry as the picture.
        rows, columns = self.kernel.shape
        middle = np.zeros((rows, columns), dtype=alpha.dtype if alpha.dtype.kind == "f" else np.int64)
        middle[(rows - 1) // 2, (columns - 1) // 2] = 1
        return self._convolved(alpha, middle).astype(alpha.dtype)


def _strongest(response: NDArray[np.float64]) -> float:
    magnitude = np.abs(response)
    return float(magnitude.max(initial=0.0, where=np.isfinite(magnitude)))
