"""Training: pictures in random order and batches through a network, its loss backward, a step of its optimizer."""

import math
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import Array, as_array, checked_count, checked_number
from ..errors import ArgumentTypeError, ArgumentValueError, StarconvError
from .activation import Dropout
from .checkpoint import Position, load_checkpoint, save_checkpoint
from .history import Epoch, History
from .loss import CrossEntropyLoss, Loss
from .module import Module
from .optim import SGD, Schedule
from .progress import TrainingProgress
from .step import TrainingStep

__all__ = ["TrainingError", "evaluate", "fit", "predict"]

Data = tuple[ArrayLike, ArrayLike]
Augment = Callable[[Array, np.random.Generator], Array]


class TrainingError(StarconvError, ArithmeticError):
    """Training that cannot go on: its loss is not a number any more."""


def fit(
    network: Module,
    train: Data,
    validation: Data | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 64,
    optimizer: SGD | None = None,
    schedule: Schedule | None = None,
    loss: Loss | None = None,
    seed: int = 0,
    augment: Augment | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 30.0,
    resume: bool = False,
    progress: bool | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> History:
    """Train `network` on pictures and their targets.

    The same arguments, data, initial weights and machine give the same final weights, bit for bit: the order of the
    pictures, `augment` and Dropout layers draw from generators made of the seed and the number of epoch and step. That
    holds too for a training that was killed at any moment and goes on with `resume`.

    Args:
        network: in place; left in training mode.
        train: pictures (N, ...) of floating-point numbers and targets (N, ...), such as class numbers (N,).
        validation: the same, to be measured after every epoch, or None.
        epochs: how many times every picture is learned from, with those before a `resume`.
        batch_size: pictures per step; the last step of an epoch has what is left.
        optimizer: default SGD(lr=0.05, momentum=0.9).
        schedule: of that optimizer, or None for the same learning rate throughout.
        loss: default CrossEntropyLoss().
        seed: decides everything random.
        augment: called with a batch of pictures and a generator, returns the pictures to learn from.
        checkpoint: a file, .npz or .safetensors, written after every epoch, and within one every `checkpoint_seconds`.
        resume: go on from `checkpoint` if it is there; one of another training is refused.
        progress: whether to show a bar on standard error; None for where that is a terminal.
        on_epoch: called after every epoch.

    Returns:
        The history, one row per epoch, with those before a `resume`.

    Raises:
        TrainingError: the loss is NaN or infinite; the network is as before that step.
        ArgumentValueError, ArgumentTypeError: naming the argument. FileContentError: a checkpoint that does not fit.

    >>> from starconv import nn
    >>> from starconv.data.digits import digits
    >>> train, test = digits()
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, seed=0))
    >>> history = fit(network, train, test, epochs=3)
    >>> history[-1].validation_accuracy > 0.9
    True
    """
    images, targets = _data("train", train)
    if validation is not None:
        validation = _data("validation", validation)
    epochs, batch_size = checked_count("epochs", epochs, 0), checked_count("batch_size", batch_size)
    seed = checked_count("seed", seed, 0)
    checked_number("checkpoint_seconds", checkpoint_seconds)
    if schedule is not None and (optimizer is None or schedule.optimizer is not optimizer):
        raise ArgumentValueError("schedule", schedule, "a schedule of the optimizer that is given with it")
    if resume and checkpoint is None:
        raise ArgumentValueError("resume", resume, "a checkpoint to go on from")
    optimizer = SGD(network.parameters(), lr=0.05, momentum=0.9) if optimizer is None else optimizer
    loss = CrossEntropyLoss() if loss is None else loss
    settings = _settings(images, targets, batch_size, optimizer, schedule, loss, seed, augment)
    position = Position()
    if checkpoint is not None and resume and Path(checkpoint).exists():
        position = load_checkpoint(checkpoint, network, optimizer, settings)

    def keep() -> None:
        if checkpoint is not None:
            save_checkpoint(checkpoint, network, optimizer, position, settings)

    step = TrainingStep(network, loss, optimizer)
    kept_at = time.monotonic()
    done = position.epoch * len(images) + position.seen
    with TrainingProgress(progress, epochs, len(images), done) as bar:
        while position.epoch < epochs:
            if schedule is not None:
                schedule.go_to(position.epoch)
            network.train()
            order = np.random.default_rng([seed, position.epoch]).permutation(len(images))
            for start in range(position.step * batch_size, len(images), batch_size):
                began = time.perf_counter()
                chosen = order[start : start + batch_size]
                batch = _prepare(network, images[chosen], seed, position, augment)
                _step(step, batch, targets[chosen], position)
                position.step += 1
                position.seconds += time.perf_counter() - began
                accuracy = position.correct / position.seen if targets.ndim == 1 else math.nan
                per_second = position.seen / max(position.seconds, 1e-9)
                bar.step(position.epoch + 1, len(chosen), position.loss / position.seen, accuracy, per_second)
                if time.monotonic() - kept_at >= checkpoint_seconds:
                    keep()
                    kept_at = time.monotonic()
            row = _finished(network, optimizer, loss, position, validation, batch_size, classes=targets.ndim == 1)
            position = Position(epoch=position.epoch + 1, history=History([*position.history, row]))
            keep()
            kept_at = time.monotonic()
            bar.epoch(row)
            if on_epoch is not None:
                on_epoch(row)
    network.train()
    return position.history


def predict(network: Module, images: ArrayLike, batch_size: int = 256) -> Array:
    """The network's outputs for `images` in eval mode, batch by batch; its mode is as before afterwards."""
    array, modes = as_array("images", images), [(module, module.training) for _, module in network.modules()]
    network.eval()
    try:
        steps = range(0, max(len(array), 1), checked_count("batch_size", batch_size))
        return np.concatenate([network(array[start : start + batch_size]) for start in steps])
    finally:
        for module, training in modes:
            module.training = training


def evaluate(
    network: Module, images: ArrayLike, targets: ArrayLike, loss: Loss | None = None, batch_size: int = 256
) -> tuple[float, float]:
    """Loss and accuracy (NaN where targets are no class numbers) in eval mode."""
    wanted = as_array("targets", targets)
    outputs = predict(network, images, batch_size)
    value = (CrossEntropyLoss() if loss is None else loss)(outputs, wanted)
    return value, _correct(outputs, wanted) / max(len(wanted), 1) if wanted.ndim == 1 else math.nan


def _prepare(network: Module, batch: Array, seed: int, position: Position, augment: Augment | None) -> Array:
    """The batch as the network shall see it; all that is random begins anew, from where training is."""
    place = [seed, position.epoch, position.step]
    dropouts = [module for _, module in network.modules() if isinstance(module, Dropout)]
    for number, module in enumerate(dropouts):
        module.rng = np.random.default_rng([*place, 1 + number])
    return batch if augment is None else augment(batch, np.random.default_rng([*place, 0]))


def _step(step: TrainingStep, batch: Array, targets: Array, position: Position) -> None:
    value = step.forward(batch, targets)
    if not math.isfinite(value):
        cause = "lower the learning rate" if np.isfinite(batch).all() else "the pictures hold NaN or infinity"
        where = f"epoch {position.epoch + 1}, step {position.step + 1}, learning rate {step.optimizer.lr:g}"
        raise TrainingError(f"the loss is {value} in {where}: {cause}")
    step.backward()
    position.loss += value * len(batch)
    position.seen += len(batch)
    if targets.ndim == 1:
        assert step.outputs is not None
        position.correct += _correct(step.outputs, targets)


def _finished(
    network: Module,
    optimizer: SGD,
    loss: Loss,
    position: Position,
    validation: Data | None,
    batch_size: int,
    *,
    classes: bool,
) -> Epoch:
    measured = (math.nan, math.nan) if validation is None else evaluate(network, *validation, loss, batch_size)
    accuracy = position.correct / position.seen if classes else math.nan
    mean = position.loss / position.seen
    return Epoch(position.epoch + 1, optimizer.lr, mean, accuracy, *measured, round(position.seconds, 3))


def _correct(outputs: Array, targets: Array) -> int:
    return int((outputs.argmax(axis=1) == targets).sum()) if outputs.ndim == 2 else 0


def _data(argument: str, data: object) -> tuple[Array, Array]:
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise ArgumentTypeError(argument, data, "a pair (pictures, targets)")
    images, targets = as_array(f"{argument}[0]", data[0]), as_array(f"{argument}[1]", data[1])
    if images.dtype.kind != "f":
        raise ArgumentTypeError(
            f"{argument}[0]", images, "floating-point numbers, as in pictures.astype('float32') / 255"
        )
    if not images.ndim or not targets.ndim or len(images) != len(targets) or not len(images):
        raise ArgumentValueError(
            f"{argument}[1]", targets, "one target per picture, at least one", pictures=images.shape
        )
    return images, targets


def _settings(
    images: Array,
    targets: Array,
    batch_size: int,
    optimizer: SGD,
    schedule: Schedule | None,
    loss: Loss,
    seed: int,
    augment: Augment | None,
) -> dict[str, Any]:
    """What decides the course of a training, in words: another course does not go on from a checkpoint of this one."""
    rates = {} if schedule is None else {k: v for k, v in vars(schedule).items() if k not in ("optimizer", "epoch")}
    return {
        "batch_size": batch_size,
        "seed": seed,
        "optimizer": optimizer.settings(),
        "learning rate": optimizer.lr if schedule is None else {"schedule": type(schedule).__name__, **rates},
        "loss": type(loss).__name__,
        "augment": None if augment is None else getattr(augment, "__qualname__", type(augment).__name__),
        "data": [list(images.shape), str(images.dtype), _checksum(images), _checksum(targets)],
    }


def _checksum(array: Array) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)
