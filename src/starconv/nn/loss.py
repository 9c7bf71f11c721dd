"""Losses, with torch.nn's arguments: ``loss(prediction, target)`` is a number, ``loss.backward()`` its gradient."""

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import Array, as_array, checked_number
from ..errors import ArgumentTypeError, ArgumentValueError, choices
from .module import BackwardError

__all__ = ["CrossEntropyLoss", "Loss", "MSELoss"]

REDUCTIONS = ("mean", "sum")


class Loss:
    """Base of losses: keeps the gradient of the last call.

    A loss of your own defines ``value(prediction, target)``, which returns the loss and its gradient.
    """

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in REDUCTIONS:
            raise ArgumentValueError("reduction", reduction, choices(REDUCTIONS))
        self.reduction = reduction
        self._gradient: Array | None = None

    def __call__(self, prediction: ArrayLike, target: ArrayLike) -> float:
        """The loss of `prediction`."""
        array = as_array("prediction", prediction)
        if array.dtype.kind != "f":
            raise ArgumentTypeError("prediction", array, "floating-point numbers")
        value, self._gradient = self.value(array, as_array("target", target))
        return float(value)

    def backward(self) -> Array:
        """The gradient of the last call's loss with respect to its prediction."""
        if self._gradient is None:
            raise BackwardError(f"{type(self).__name__}.backward: there is no call of the loss left to go back through")
        gradient, self._gradient = self._gradient, None
        return gradient

    def value(self, prediction: Array, target: Array) -> tuple[float, Array]:
        """The loss, and its gradient with respect to the prediction; what a loss defines."""
        raise NotImplementedError(f"{type(self).__name__}.value")


class MSELoss(Loss):
    """The mean (or sum) of squared differences.

    >>> loss = MSELoss()
    >>> loss([1.0, 3.0], [0.0, 0.0])
    5.0
    >>> loss.backward()
    array([1., 3.])
    """

    def value(self, prediction: Array, target: Array) -> tuple[float, Array]:
        """(p - t)², and 2 (p - t)."""
        if prediction.shape != target.shape:
            raise ArgumentValueError("target", target, f"the shape of the prediction, {prediction.shape}")
        difference = prediction - target
        count = difference.dtype.type(max(difference.size, 1) if self.reduction == "mean" else 1)
        return float((difference * difference).sum() / count), difference * (2 / count)


class CrossEntropyLoss(Loss):
    """-log softmax(prediction)[target] for (N, C) or (N, C, ...), with torch.nn.CrossEntropyLoss's arguments.

    `target` are class numbers (N, ...) or probabilities of the prediction's shape.

    Args:
        weight: (C,) factors of the classes, or None.
        ignore_index: class number that does not count.
        reduction: "mean" (over the weights of what counts) or "sum".
        label_smoothing: this share of every target is spread over all classes.

    >>> loss = CrossEntropyLoss()
    >>> round(loss(np.zeros((1, 4)), [2]), 4)  # four equal chances: log 4
    1.3863
    >>> loss.backward()
    array([[ 0.25,  0.25, -0.75,  0.25]])
    """

    def __init__(
        self,
        weight: ArrayLike | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        self.weight = None if weight is None else as_array("weight", weight)
        self.ignore_index = int(ignore_index)
        self.label_smoothing = checked_number("label_smoothing", label_smoothing, 0.0, 1.0)

    def value(self, prediction: Array, target: Array) -> tuple[float, Array]:
        """-sum q log p with q the weighted target distribution; its gradient is p sum q - q."""
        if prediction.ndim < 2:
            raise ArgumentValueError("prediction", prediction, "shape (N, C) or (N, C, ...)")
        scores = np.moveaxis(prediction, 1, -1)
        wanted, divisor = self._wanted(scores, target)
        shifted = scores - scores.max(axis=-1, keepdims=True)  # so that exp cannot overflow
        powers = np.exp(shifted)
        totals = powers.sum(axis=-1, keepdims=True)
        logs = shifted - np.log(totals)
        # 0 log 0 is 0: a class that nobody wants does not count, however unlikely it is.
        terms = np.multiply(wanted, logs, out=np.zeros_like(logs), where=wanted != 0)
        if self.reduction == "sum":
            divisor = 1.0
        with np.errstate(invalid="ignore", divide="ignore"):  # a batch in which nothing counts has the mean 0 / 0
            value = -np.float64(terms.sum()) / divisor
        gradient = powers / totals * wanted.sum(axis=-1, keepdims=True) - wanted
        gradient /= scores.dtype.type(divisor or 1)  # and the gradient 0
        return float(value), np.moveaxis(gradient, -1, 1)

    def _wanted(self, scores: Array, target: Array) -> tuple[Array, float]:
        """Per prediction the weighted target distribution, and what the mean divides by."""
        classes = scores.shape[-1]
        factors = np.ones(classes, scores.dtype) if self.weight is None else self.weight.astype(scores.dtype)
        if factors.shape != (classes,):
            raise ArgumentValueError("weight", factors, f"shape ({classes},), one factor per class")
        smooth = scores.dtype.type(self.label_smoothing)
        if target.dtype.kind == "f":
            given = np.moveaxis(target, 1, -1) if target.ndim > 1 else target
            if given.shape != scores.shape:
                raise ArgumentValueError("target", target, "class numbers, or probabilities of the prediction's shape")
            probabilities = given.astype(scores.dtype)
            return ((1 - smooth) * probabilities + smooth / classes) * factors, float(scores[..., 0].size)
        if target.shape != scores.shape[:-1] or target.dtype.kind not in "iu":
            raise ArgumentValueError("target", target, f"class numbers of shape {scores.shape[:-1]}")
        counts = target != self.ignore_index
        numbers = np.where(counts, target, 0)
        if numbers.size and (numbers.min() < 0 or numbers.max() >= classes):
            wrong = numbers[(numbers < 0) | (numbers >= classes)].flat[0]
            raise ArgumentValueError("target", int(wrong), f"class numbers from 0 to {classes - 1}")
        wanted = np.broadcast_to(smooth / classes * factors, scores.shape).copy()
        own = (1 - smooth) * factors[numbers]
        places = numbers[..., np.newaxis]
        np.put_along_axis(wanted, places, np.take_along_axis(wanted, places, -1) + own[..., np.newaxis], -1)
        wanted *= counts[..., np.newaxis]
        return wanted, float(factors[numbers][counts].sum())
