"""torch.nn's convolutional layers with starconv's forward: the same arguments, parameters, state_dict and repr."""

from typing import Any

import torch

from . import functional

__all__ = ["OURS", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


def _forward(convolution: Any) -> Any:
    def forward(self: Any, input: torch.Tensor) -> torch.Tensor:
        """The convolution of `input` (N, C, ...) or (C, ...), by starconv."""
        arguments = self.stride, self.padding, self.dilation, self.groups
        result: torch.Tensor = convolution(input, self.weight, self.bias, *arguments, padding_mode=self.padding_mode)
        return result

    return forward


def _transposed_forward(transposed: Any, spatial: int) -> Any:
    def forward(self: Any, input: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        """The transposed convolution of `input` (N, C, ...) or (C, ...), by starconv."""
        output_padding = self.output_padding
        if output_size is not None:  # how torch finds the output padding that leads to a size
            output_padding = tuple(
                self._output_padding(
                    input, output_size, self.stride, self.padding, self.kernel_size, spatial, self.dilation
                )
            )
        arguments = self.stride, self.padding, output_padding, self.groups, self.dilation
        result: torch.Tensor = transposed(input, self.weight, self.bias, *arguments)
        return result

    return forward


class Conv1d(torch.nn.Conv1d):
    """``torch.nn.Conv1d``, computed by starconv."""

    forward = _forward(functional.conv1d)


class Conv2d(torch.nn.Conv2d):
    """``torch.nn.Conv2d``, computed by starconv: the same arguments, parameters and state_dict.

    >>> import torch
    >>> layer = Conv2d(3, 8, 3, stride=2, padding=1)
    >>> layer
    Conv2d(3, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))
    >>> layer(torch.zeros(4, 3, 32, 32)).shape
    torch.Size([4, 8, 16, 16])
    """

    forward = _forward(functional.conv2d)


class Conv3d(torch.nn.Conv3d):
    """``torch.nn.Conv3d``, computed by starconv."""

    forward = _forward(functional.conv3d)


class ConvTranspose1d(torch.nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d``, computed by starconv."""

    forward = _transposed_forward(functional.conv_transpose1d, 1)


class ConvTranspose2d(torch.nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d``, computed by starconv: the same arguments, parameters and state_dict.

    >>> import torch
    >>> ConvTranspose2d(8, 3, 3, stride=2)(torch.zeros(1, 8, 16, 16), output_size=(34, 34)).shape
    torch.Size([1, 3, 34, 34])
    """

    forward = _transposed_forward(functional.conv_transpose2d, 2)


class ConvTranspose3d(torch.nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d``, computed by starconv."""

    forward = _transposed_forward(functional.conv_transpose3d, 3)


OURS: dict[type[torch.nn.Module], type[torch.nn.Module]] = {
    torch.nn.Conv1d: Conv1d,
    torch.nn.Conv2d: Conv2d,
    torch.nn.Conv3d: Conv3d,
    torch.nn.ConvTranspose1d: ConvTranspose1d,
    torch.nn.ConvTranspose2d: ConvTranspose2d,
    torch.nn.ConvTranspose3d: ConvTranspose3d,
}
"""Which layer of ours takes the place of which of torch's."""
