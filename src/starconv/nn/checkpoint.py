"""Checkpoints: all that training needs to go on as if it had not been stopped, in one file that is always whole."""

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..arguments import Array
from ..data.files import FileContentError
from .history import Epoch, History
from .module import Module
from .optim import SGD
from .storage import load_state, save_state

__all__ = ["Position", "load_checkpoint", "save_checkpoint"]

_FORMAT = 1


@dataclass
class Position:
    """Where training is: the next step of an epoch, and sums over the steps before it.

    All randomness is drawn from generators that begin anew at every step, from the seed and these numbers, so there is
    no state of a generator to keep.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0
    history: History = field(default_factory=History)


def save_checkpoint(
    path: str | os.PathLike[str], network: Module, optimizer: SGD, position: Position, settings: dict[str, Any]
) -> None:
    """Replace `path` by a checkpoint: the old one is there until the new one is complete."""
    about = {
        "format": _FORMAT,
        "position": asdict(position) | {"history": list(position.history)},
        "settings": settings,
    }
    arrays = {f"network/{name}": array for name, array in network.state_dict().items()}
    arrays |= {f"optimizer/{name}": array for name, array in optimizer.state_dict().items()}
    save_state({**arrays, "about": np.frombuffer(json.dumps(about).encode(), np.uint8)}, path)


def load_checkpoint(
    path: str | os.PathLike[str], network: Module, optimizer: SGD, settings: dict[str, Any]
) -> Position:
    """Put `network` and `optimizer` where the checkpoint in `path` has them; the position at which to go on.

    Raises:
        FileContentError: no checkpoint, or one of another training: what differs is named.
        ArgumentValueError: one of another network.
    """
    arrays = load_state(path)
    try:
        about = json.loads(bytes(arrays.pop("about")))
        known = about["format"] == _FORMAT
        saved: dict[str, Any] = about["settings"]
        position = Position(**about["position"])
        position.history = History(Epoch(*row) for row in about["position"]["history"])
    except (KeyError, ValueError, TypeError, AttributeError):
        known = False
    if not known:
        raise FileContentError(path, "a checkpoint of starconv.nn.fit")
    wanted = json.loads(json.dumps(settings))
    if saved != wanted:
        names = [name for name in {**saved, **wanted} if saved.get(name) != wanted.get(name)]
        differences = "; ".join(f"{name} was {saved.get(name)!r} and is {wanted.get(name)!r}" for name in names)
        raise FileContentError(path, f"a checkpoint of the same training: {differences}")
    network.load_state_dict(_part(arrays, "network/"))
    optimizer.load_state_dict(_part(arrays, "optimizer/"))
    return position


def _part(arrays: dict[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
