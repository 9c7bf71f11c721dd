"""Transposed convolutional layers: they multiply by A^T where the convolution multiplies by A."""

import math
from typing import Any, ClassVar

import numpy as np

from .. import functional
from ..arguments import Seed
from ..errors import ArgumentValueError
from ..geometry import Axis, Padding, PerAxis, per_axis, transposed_axes
from .conv import ConvBase
from .module import Shape

__all__ = ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


class _ConvTranspose(ConvBase):
    """The transposed convolution over `spatial` axes."""

    transposed = True
    functions: ClassVar[dict[int, Any]] = {
        1: functional.conv_transpose1d,
        2: functional.conv_transpose2d,
        3: functional.conv_transpose3d,
    }

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: Padding = 0,
        output_padding: PerAxis = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: PerAxis = 1,
        padding_mode: str = "zeros",
        *,
        dtype: object = "float32",
        seed: Seed = None,
    ) -> None:
        if padding_mode != "zeros":
            raise ArgumentValueError("padding_mode", padding_mode, "'zeros', the only one a transposed convolution has")
        self.output_padding = per_axis("output_padding", output_padding, self.spatial, minimum=0)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, dtype, seed)
        # Sizes do not matter for what can be wrong here, as long as something is left of the output.
        self._axes((1000,) * self.spatial)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """As conv_transpose2d takes them."""
        return self.stride, self.padding, self.output_padding, self.groups, self.dilation

    def _axes(self, sizes: Shape) -> tuple[Axis, ...]:
        return transposed_axes(sizes, self.kernel_size, self.stride, self.padding, self.output_padding, self.dilation)

    def window(self, shape: Shape) -> tuple[Axis, ...] | None:
        """With stride 1 a convolution; else which inputs an output element reads depends on its phase of the stride."""
        if any(step != 1 for step in self.stride):
            return None
        return tuple(
            Axis(
                axis.output, axis.kernel, 1, axis.extent - 1 - axis.before, axis.extent - 1 - axis.after, axis.dilation
            )
            for axis in self._axes(shape[2:])
        )

    def output_shape(self, shape: Shape) -> Shape:
        """(N, K, ...) for (N, C, ...)."""
        self.batched(np.broadcast_to(np.float32(0), shape))
        return (shape[0], self.out_channels, *(axis.input for axis in self._axes(shape[2:])))

    def multiply_adds(self, shape: Shape) -> int:
        """Every input element stamps its kernel."""
        return math.prod(shape[2:]) * shape[0] * int(self.weight.size)

    def repr_of_output_padding(self) -> list[str]:
        """As torch has it."""
        return [f"output_padding={self.output_padding}"] if any(self.output_padding) else []


class ConvTranspose1d(_ConvTranspose):
    """:class:`ConvTranspose2d` with one spatial axis: x (N, C, W), weight (C, K / groups, k).

    >>> ConvTranspose1d(4, 1, 3, stride=2)(np.zeros((1, 4, 5))).shape
    (1, 1, 11)
    """

    spatial = 1


class ConvTranspose2d(_ConvTranspose):
    """A transposed convolutional layer, with torch.nn.ConvTranspose2d's arguments and names.

    Args:
        in_channels, out_channels: channels C of the input and K of the output.
        kernel_size, stride, padding, dilation, groups: those of the convolution that this one transposes.
        output_padding: elements added at the end of the output, less than the stride or the dilation.
        bias: whether there is a value per output channel to add.
        padding_mode: "zeros".
        dtype: of weight and bias, "float32" or "float64".
        seed: an int or a numpy.random.Generator for the initial weights; None for others every time.

    Attributes:
        weight: (C, K / groups, kh, kw), read-only; replaced by assignment. At first uniform between
            ±1 / sqrt(K / groups kh kw), which is how torch counts.
        bias: (K,), from the same distribution, or None.

    >>> layer = ConvTranspose2d(8, 3, 2, stride=2, seed=0)
    >>> layer(np.zeros((1, 8, 16, 16), "float32")).shape
    (1, 3, 32, 32)
    """

    spatial = 2


class ConvTranspose3d(_ConvTranspose):
    """:class:`ConvTranspose2d` with three spatial axes: x (N, C, D, H, W), weight (C, K / groups, kd, kh, kw).

    >>> ConvTranspose3d(1, 1, 2)(np.zeros((1, 3, 3, 3))).shape
    (1, 4, 4, 4)
    """

    spatial = 3
