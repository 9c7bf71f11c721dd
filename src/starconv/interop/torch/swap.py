"""`accelerate` and `restore`: the convolutional layers of a model, computed by starconv and by torch again.

A layer's class is changed, and nothing else about it. So parameters, buffers and hooks are the same objects as before:
optimizers go on, shared layers stay shared, state_dict, training and eval are untouched, a deepcopy is accelerated too.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from ...errors import ArgumentTypeError
from .arguments import sums_in
from .layers import OURS

__all__ = ["Report", "accelerate", "restore"]

_THEIRS = {ours: theirs for theirs, ours in OURS.items()}
_CONVOLUTIONS = tuple(OURS)


@dataclass(frozen=True)
class Report:
    """What `accelerate` or `restore` did.

    Attributes:
        by: "starconv" or "torch": who computes the swapped layers from now on.
        swapped: (name, layer) of every layer that was changed; a shared layer under its first name.
        kept: (name, reason) of every convolution that was not.
    """

    by: str
    swapped: tuple[tuple[str, str], ...]
    kept: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        count = len(self.swapped)
        again = " again" if self.by == "torch" else ""
        lines = [f"{count} layer{'' if count == 1 else 's'} computed by {self.by}{again}"]
        lines += [f"  {name}: {layer}" for name, layer in self.swapped]
        lines += [f"  {name}: left alone, {reason}" for name, reason in self.kept]
        return "\n".join(lines)


def accelerate(model: torch.nn.Module) -> Report:
    """Let starconv compute the convolutional layers of `model`, in place; :func:`restore` takes it back.

    Swapped are layers that are exactly torch.nn's Conv1d to Conv3d and ConvTranspose1d to ConvTranspose3d, with weights
    on the CPU that starconv can sum. Subclasses may mean something else by their forward, so they are left alone, and
    with them the classes that torch.nn.utils.parametrize makes; the older weight_norm and spectral_norm, which set the
    weight before each call, are no obstacle. Under ``torch.compile`` the swapped layers run as they are, between
    compiled parts; ``torch.jit`` cannot script them.

    Returns:
        A :class:`Report`: which layers were swapped, and why other convolutions were not.

    Raises:
        ArgumentTypeError: `model` is no torch.nn.Module.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Conv2d(2, 2, 3, dtype=torch.complex64))
    >>> accelerate(model)
    1 layer computed by starconv
      0: Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))
      1: left alone, weight of dtype torch.complex64
    """
    swapped, kept = [], []
    for name, layer in _convolutions(model):
        reason = _obstacle(layer)
        if reason is None:
            swapped.append((name, repr(layer)))
            layer.__class__ = OURS[type(layer)]
        elif type(layer) not in _THEIRS:
            kept.append((name, reason))
    return Report("starconv", tuple(swapped), tuple(kept))


def restore(model: torch.nn.Module) -> Report:
    """Let torch compute the layers of `model` that :func:`accelerate` swapped.

    Returns:
        A :class:`Report`: which layers were changed back, and which could not be.

    Raises:
        ArgumentTypeError: `model` is no torch.nn.Module.
    """
    swapped, kept = [], []
    for name, layer in _convolutions(model):
        if type(layer) in _THEIRS:
            swapped.append((name, repr(layer)))
            layer.__class__ = _THEIRS[type(layer)]
        elif isinstance(layer, tuple(_THEIRS)):
            kept.append((name, f"{_class(layer)} is a subclass of starconv's layer"))
    return Report("torch", tuple(swapped), tuple(kept))


def _convolutions(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Every convolutional layer of `model` once, the model itself included."""
    if not isinstance(model, torch.nn.Module):
        raise ArgumentTypeError("model", model, "a torch.nn.Module")
    for name, layer in model.named_modules():
        if isinstance(layer, _CONVOLUTIONS):
            yield name or "(the model)", layer


def _obstacle(layer: torch.nn.Module) -> str | None:
    """Why `layer` is left alone, or None."""
    if type(layer) in _THEIRS:
        return "computed by starconv already"
    if parametrize.is_parametrized(layer):
        return "parametrized: torch gave it a class of its own"
    weight = getattr(layer, "weight", None)
    if weight is not None and is_lazy(weight):
        return "lazy: call it once, so that it knows its sizes"
    if type(layer) not in OURS:
        return f"{_class(layer)} is a subclass, whose forward may be another"
    if not isinstance(weight, torch.Tensor):
        return "without a weight"
    if weight.device.type != "cpu":
        return f"weight on {weight.device}"
    try:
        sums_in(weight.dtype)
    except KeyError:
        return f"weight of dtype {weight.dtype}"
    return None


def _class(layer: torch.nn.Module) -> str:
    return f"{type(layer).__module__}.{type(layer).__qualname__}"
