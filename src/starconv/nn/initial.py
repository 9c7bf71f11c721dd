"""How weights begin: torch.nn's distributions, from a generator that the caller names, since there is no global one."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments import Array

__all__ = ["fan_in_of", "kaiming_uniform", "uniform_bias"]


def fan_in_of(shape: Sequence[int]) -> int:
    """Inputs of one output, as torch.nn.init counts them: all axes but the first (so also for transposed ones)."""
    return math.prod(shape[1:])


def kaiming_uniform(shape: Sequence[int], rng: np.random.Generator, dtype: np.dtype[Any]) -> Array:
    """Uniform between ±sqrt(6 / ((1 + a²) fan_in)) with a = sqrt(5), which is ±1 / sqrt(fan_in).

    Source: K. He et al., "Delving deep into rectifiers", arXiv:1502.01852, with the a that torch.nn's layers use.
    """
    bound = math.sqrt(6 / ((1 + 5) * fan_in_of(shape)))
    return rng.uniform(-bound, bound, shape).astype(dtype)


def uniform_bias(count: int, weight_shape: Sequence[int], rng: np.random.Generator, dtype: np.dtype[Any]) -> Array:
    """Uniform between ±1 / sqrt(fan_in) of the weights beside it."""
    bound = 1 / math.sqrt(fan_in_of(weight_shape))
    return rng.uniform(-bound, bound, count).astype(dtype)
