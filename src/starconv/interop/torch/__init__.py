"""starconv's convolutions for PyTorch: functions with autograd, layers, and `accelerate` for a whole model.

>>> import torch
>>> from starconv.interop.torch import accelerate, conv2d, restore
>>> x, w = torch.rand(1, 3, 8, 8), torch.rand(4, 3, 3, 3, requires_grad=True)
>>> output = conv2d(x, w, padding=1)
>>> output.shape
torch.Size([1, 4, 8, 8])
>>> output.sum().backward()
>>> w.grad.shape
torch.Size([4, 3, 3, 3])
>>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
>>> print(accelerate(model))
1 layer computed by starconv
  0: Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1))
>>> model(x).shape
torch.Size([1, 4, 6, 6])
>>> print(restore(model))
1 layer computed by torch again
  0: Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1))
"""

from ...data.files import MissingPackageError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise MissingPackageError(
        "starconv.interop.torch needs torch, which is not installed: pip install torch"
    ) from error

from .functional import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from .layers import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .swap import Report, accelerate, restore

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Report",
    "accelerate",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "restore",
]
