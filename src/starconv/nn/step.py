"""A training step as one native program: forward, the loss, backward and the optimizer's update."""

from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from ..arguments import Array, as_array, channels_last_in_memory
from ..errors import ArgumentTypeError, StarconvError
from .loss import Loss
from .module import BackwardError, Module
from .optim import SGD

if TYPE_CHECKING:
    from .program import Home, Program

__all__ = ["TrainingStep"]

MOST_PROGRAMS = 4
"""Shapes of batches whose programs are kept: that of most steps, and that of an epoch's last one."""


class TrainingStep:
    """``step(x, targets)``: the loss of a batch, and one step of the optimizer down its gradient.

    Where all layers can be written down (those of starconv.nn can, in training mode), a batch's shape is compiled to
    a program at its first step: two lists of jobs for compiled code, one up to the prediction, one from its gradient to
    the new parameters, with all memory planned ahead. Between them is the loss, in Python, so any loss will do, and a
    loss that is not a number stops training before any parameter has moved. Else, and with ``native=False``, the same
    is done layer by layer. Both ways give the same bits, unless the planner has chosen another algorithm for
    a convolution with its ReLU than for that without.

    Parameters may be read and assigned between steps as ever; their ``grad`` is not set where the program runs. Steps
    are for one thread at a time, as training is.

    Args:
        network, loss, optimizer: as in a training loop; the optimizer has the network's parameters.
        native: whether to compile.

    Attributes:
        outputs: the prediction of the last step.
        reason: why the last step went layer by layer, or None.

    >>> import numpy as np
    >>> from starconv import nn
    >>> network = nn.Sequential(nn.Conv2d(1, 4, 3, seed=0), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10, seed=1))
    >>> step = TrainingStep(network, nn.CrossEntropyLoss(), nn.SGD(network.parameters(), lr=0.1, momentum=0.9))
    >>> x, y = np.random.default_rng(0).random((16, 1, 8, 8), "float32"), np.arange(16) % 10
    >>> losses = [step(x, y) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
    """

    def __init__(self, network: Module, loss: Loss, optimizer: SGD, *, native: bool = True) -> None:
        for argument, value, kind in (
            ("network", network, Module),
            ("loss", loss, Loss),
            ("optimizer", optimizer, SGD),
        ):
            if not isinstance(value, kind):
                raise ArgumentTypeError(argument, value, f"a starconv.nn.{kind.__name__}")
        self.network, self.loss, self.optimizer, self.native = network, loss, optimizer, bool(native)
        self._modules = [module for _, module in network.modules()]
        self.outputs: Array | None = None
        self.reason: str | None = None
        self._home: Home | None = None
        self._programs: dict[tuple[Any, ...], Program | str] = {}
        self._running: Program | None = None
        self._waiting = False

    def __call__(self, x: ArrayLike, targets: ArrayLike) -> float:
        """:meth:`forward` and :meth:`backward`."""
        value = self.forward(x, targets)
        self.backward()
        return value

    def forward(self, x: ArrayLike, targets: ArrayLike) -> float:
        """The loss of the batch `x` (N, ...), whose prediction is then in `outputs`."""
        batch = as_array("x", x)
        self._running = program = self._program(batch)
        self.outputs = self.network(batch) if program is None else program.forward(batch)
        value = self.loss(self.outputs, targets)
        self._waiting = True
        return value

    def backward(self) -> None:
        """Gradients of that loss, and the optimizer's step.

        Raises:
            BackwardError: there was no :meth:`forward` since the last time.
        """
        if not self._waiting:
            raise BackwardError("TrainingStep.backward: there is no forward step left to go back through")
        self._waiting = False
        gradient = self.loss.backward()
        if self._running is not None:
            self._running.backward(gradient)
            return
        self.optimizer.zero_grad()
        self.network.backward_parameters(gradient)
        self.optimizer.step()

    @property
    def programs(self) -> "list[Program]":
        """Those that are kept, the oldest first."""
        return [program for program in self._programs.values() if not isinstance(program, str)]

    def _program(self, batch: Array) -> "Program | None":
        """That for such a batch, made if need be; None, with `reason`, where there is none."""
        if not self.native:
            self.reason = "native=False"
            return None
        optimizer, modes = self.optimizer, tuple(module.training for module in self._modules)
        form = bool(optimizer.momentum), optimizer.nesterov, optimizer.maximize, optimizer.begins_at_rest
        last = batch.ndim > 2 and channels_last_in_memory(batch)
        key = batch.shape, batch.dtype, last, modes, form
        found = self._programs.get(key)
        if found is None:
            # The engine is imported with the first step.
            from .program import Home, Program

            try:
                self._home = Home(self.network, optimizer) if self._home is None else self._home
                found = Program(self._home, batch.shape, batch.dtype, last)
            except StarconvError as error:  # of a wrong call too, which the layers tell in their own words
                found = str(error)
            if len(self._programs) >= MOST_PROGRAMS:
                self._programs.pop(next(iter(self._programs)))
            self._programs[key] = found
        self.reason = found if isinstance(found, str) else None
        return None if isinstance(found, str) else found
