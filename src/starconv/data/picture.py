"""A picture in memory: its pixels, and what is needed to write it back as it was."""

from dataclasses import dataclass

from ..errors import ArgumentTypeError, ArgumentValueError
from .depth import Depth, Pixels, depth_of, white

__all__ = ["Image"]


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """Pixels (H, W) or (H, W, 3) of uint8, uint16, float32 or float64, with alpha (H, W) of the same dtype or None.

    ``mode`` is how the file stored them, in Pillow's words where it has one ("L", "P", "CMYK", "RGB;16");
    ``icc_profile`` says what the colours mean.
    """

    array: Pixels
    alpha: Pixels | None = None
    mode: str = ""
    icc_profile: bytes | None = None

    def __post_init__(self) -> None:
        if self.array.ndim not in (2, 3) or (self.array.ndim == 3 and self.array.shape[2] != 3) or not self.array.size:
            raise ArgumentValueError("array", self.array, "a picture: shape (H, W) or (H, W, 3), without empty axes")
        depth_of(self.array.dtype)
        if self.alpha is not None:
            if self.alpha.shape != self.array.shape[:2]:
                raise ArgumentValueError("alpha", self.alpha, "the height and width of the picture", array=self.array)
            if self.alpha.dtype != self.array.dtype:
                raise ArgumentTypeError("alpha", self.alpha, "the dtype of the picture", array=self.array)

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB; alpha does not count."""
        return 1 if self.array.ndim == 2 else self.array.shape[2]

    @property
    def depth(self) -> Depth:
        """``"8"``, ``"16"`` or ``"float"``."""
        return depth_of(self.array.dtype)

    @property
    def white(self) -> float:
        """The value of white: 255, 65535 or 1."""
        return white(self.array.dtype)

    def __str__(self) -> str:
        kind = ("grey" if self.channels == 1 else "RGB") + (" + alpha" if self.alpha is not None else "")
        depth = "float" if self.depth == "float" else f"{self.depth} bit"
        return f"{self.array.shape[1]} x {self.array.shape[0]} {kind}, {depth}"
