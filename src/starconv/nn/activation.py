"""Layers that work on every number by itself."""

from typing import TYPE_CHECKING

import numpy as np

from ..arguments import Array, Seed, checked_number, generator_of
from .compiled import elementwise, laid_out_like
from .module import Back, Module, Shape

if TYPE_CHECKING:
    from ..engine.steps import Value
    from .recorder import Recorder

__all__ = ["Dropout", "ReLU"]


class ReLU(Module):
    """max(x, 0); its gradient at 0 is 0, as torch's.

    >>> ReLU()([-1.0, 0.0, 2.0])
    array([0., 0., 2.])
    """

    keeps_order = True

    def forward(self, x: Array) -> Array:
        """max(x, 0); NaN stays."""
        output = elementwise("relu", x)
        if output is None:
            output = np.maximum(x, 0)
        self.keep(output)
        return output

    def pull_back(self, grad: Array, needed: bool) -> Array | None:
        """grad where the output is above 0."""
        (output,) = self.kept()
        if not needed:
            return None
        result = elementwise("relu_gradient", laid_out_like(grad, output), output)
        return np.where(output > 0, grad, grad.dtype.type(0)) if result is None else result

    def record(self, tape: "Recorder", x: "Value") -> tuple["Value", Back]:
        """The same; where it can, the layer before computes it."""
        output = tape.relu(x)
        output.keep()

        def back(grad: "Value", needed: bool) -> "Value | None":
            if not needed:
                return None
            grad = tape.laid_like(grad, output)
            result = grad if grad.may_change else tape.like(grad)
            tape.elementwise("relu_gradient", [grad, output], [result])
            return result

        return output, back

    def output_shape(self, shape: Shape) -> Shape:
        """The same."""
        return shape


class Dropout(Module):
    """In training every number is 0 with probability `p` and otherwise divided by 1 - p; else nothing happens.

    Args:
        p: probability of 0, from 0 to 1.
        seed: an int or a numpy.random.Generator; :func:`starconv.nn.fit` sets one for every step.

    >>> Dropout(0.5, seed=0)(np.ones(6))
    array([2., 2., 2., 0., 0., 0.])
    """

    def __init__(self, p: float = 0.5, *, seed: Seed = None) -> None:
        super().__init__()
        self.p = checked_number("p", p, 0.0, 1.0)
        self.rng = generator_of(seed)

    def forward(self, x: Array) -> Array:
        """x with some numbers dropped."""
        if not self.training or self.p == 0:
            self.keep(None)
            return x
        factors = laid_out_like(self._drawn(x.shape).astype(np.result_type(x, np.float16)), x)
        self.keep(factors)
        output: Array = x * factors
        return output

    def pull_back(self, grad: Array, needed: bool) -> Array | None:
        """What was dropped has no gradient."""
        (factors,) = self.kept()
        if not needed:
            return None
        result: Array = grad if factors is None else grad * factors
        return result

    def record(self, tape: "Recorder", x: "Value") -> tuple["Value", Back]:
        """The same; factors are drawn before each step."""
        if self.p == 0:
            return x, lambda grad, needed: grad
        factors, output = tape.like(x), tape.like(x)
        tape.drawn(factors, lambda: self._drawn(x.shape))
        tape.elementwise("multiply", [x, factors], [output])

        def back(grad: "Value", needed: bool) -> "Value | None":
            if not needed:
                return None
            result = tape.like(grad)
            tape.elementwise("multiply", [grad, factors], [result])
            return result

        return output, back

    def _drawn(self, shape: Shape) -> Array:
        """What every number is multiplied by."""
        scale = 0.0 if self.p == 1 else 1 / (1 - self.p)
        return np.where(self.rng.random(shape, dtype=np.float32) >= self.p, scale, 0.0)

    def output_shape(self, shape: Shape) -> Shape:
        """The same."""
        return shape

    def extra_repr(self) -> str:
        """torch's words."""
        return f"p={self.p}, inplace=False"
