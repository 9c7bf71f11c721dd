"""Training steps beside PyTorch: forward, cross entropy, backward, SGD with momentum, from the same weights and data.

torch takes part as it is (NCHW), with channels_last, and compiled (torch.compile, where a C++ compiler is at hand).
"""

import importlib
import importlib.util
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from . import timing
from .children import numbers
from .machine import cores
from .report import Figure

Step = Callable[[], float]

NETWORKS = {"lenet": ((1, 28, 28), 64, 1.5), "resnet20": ((3, 32, 32), 32, 1.2)}
"""By name: the shape of a picture, pictures per step, and the wanted ratio of torch's best time to ours."""
EFFORT = timing.Effort(rounds=5, attempts=10, budget=15.0, seconds=0.3, warm_up=0.2, rest=0.1)
RATE, MOMENTUM, CLASSES = 0.01, 0.9, 10


def measure(check: bool = False) -> list[Figure]:
    """All figures; with `check`, the smaller network once and nothing compiled."""
    figures: list[Figure] = []
    for name in list(NETWORKS)[: 1 if check else None]:
        figures += _steps(name, timing.QUICK if check else EFFORT, compiled=not check)
        figures += _memory(name)
    return figures


PEAK = """
import sys
import numpy as np
from bench import training
from bench.children import peak_bytes
name, who = sys.argv[1:]
x, targets = training.batch_of(name)
training.imported(who)
before = peak_bytes()
step = training.step_of(who, name, x, targets)
for _ in range(5):
    step()
print(before, peak_bytes())
"""
"""Prints the peak of a process in bytes, before and after five steps."""


def _memory(name: str) -> list[Figure]:
    """The peak of a process that makes steps, of which a part is there once everything is imported."""
    peaks = {who: [part / 2**20 for part in numbers(PEAK, name, who)] for who in ("starconv", *_present())}
    what, figures = f"{name}, peak of a process that makes steps", []
    least = min((peaks[who][1] for who in peaks if who != "starconv"), default=None)
    for who, (before, peak) in peaks.items():
        note = f"{before:.0f} MiB once it is imported"
        figures.append(Figure("training", f"{what}: {who}", peak, "MiB", least if who == "starconv" else None, note))
    return figures


def _present() -> list[str]:
    """Peers that are at hand without a compiler."""
    return ["torch", "torch channels_last"] if importlib.util.find_spec("torch") is not None else []


def imported(who: str) -> None:
    """Import what `who` needs for steps."""
    importlib.import_module("starconv.nn")
    importlib.import_module("starconv.engine.planner")
    if who != "starconv":
        importlib.import_module("torch")


def batch_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and class numbers of a step."""
    shape, batch, _ = NETWORKS[name]
    generator = np.random.default_rng(0)
    x = generator.standard_normal((batch, *shape)).astype(np.float32)
    return x, generator.integers(0, CLASSES, batch)


def step_of(who: str, name: str, x: np.ndarray, targets: np.ndarray) -> Step:
    """The step of starconv, its layers one by one, or one of torch's."""
    if who.startswith("starconv"):
        return _own(name, x, targets, native=who == "starconv")
    return _torch(name, x, targets, last=who == "torch channels_last", compiled=who == "torch.compile")


def _steps(name: str, effort: timing.Effort, *, compiled: bool) -> list[Figure]:
    _, batch, wanted = NETWORKS[name]
    x, targets = batch_of(name)
    who = ["starconv", "starconv by layers", *_present()]
    if compiled and _present() and shutil.which("g++"):
        who.append("torch.compile")
    calls = {each: step_of(each, name, x, targets) for each in who}
    losses = {who: step() for who, step in calls.items()}
    for who, loss in losses.items():
        if abs(loss - losses["starconv"]) > 1e-3 * abs(loss):
            raise RuntimeError(f"{who} has the loss {loss} where starconv has {losses['starconv']}")
    times, others = timing.alternate(calls, effort)
    note = "" if others is None else f"others used {others:.0%} of the machine"
    what, own = f"{name}, step of {batch} pictures, {cores()} threads", times["starconv"].seconds
    figures = [Figure("training", f"{what}: starconv", 1e3 * own, "ms", None, note)]
    best = min((times[who].seconds for who in times if not who.startswith("starconv")), default=None)
    for who in times:
        if who != "starconv":
            figures.append(Figure("training", f"{what}: {who} ÷ starconv", times[who].seconds / own, "x"))
    if best is not None:
        figures.append(Figure("training", f"{what}: the best of torch ÷ starconv", best / own, "x", wanted))
    return figures


def _network(name: str) -> Any:
    from starconv.nn import networks

    (channels, *size), _, _ = NETWORKS[name]
    return networks.NETWORKS[name](channels, tuple(size), CLASSES, 0)


def _own(name: str, x: np.ndarray, targets: np.ndarray, *, native: bool = True) -> Step:
    import starconv
    from starconv import nn

    starconv.set_num_threads(cores())
    network = _network(name)
    optimizer = nn.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM)
    step = nn.TrainingStep(network, nn.CrossEntropyLoss(), optimizer, native=native)
    return lambda: step(x, targets)


def _torch(name: str, x: np.ndarray, targets: np.ndarray, *, last: bool, compiled: bool = False) -> Step:
    import torch

    torch.set_num_threads(cores())
    model = _as_torch(_network(name))
    pictures, classes = torch.from_numpy(x), torch.from_numpy(targets)
    if last:
        model, pictures = (part.to(memory_format=torch.channels_last) for part in (model, pictures))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    loss = torch.nn.CrossEntropyLoss()
    forward = torch.compile(model) if compiled else model

    def step() -> float:
        optimizer.zero_grad()
        value = loss(forward(pictures), classes)
        value.backward()
        optimizer.step()
        return float(value.detach())

    return step


def _as_torch(layer: Any) -> Any:
    """The same layer, with the same weights, of torch.nn."""
    import torch

    from starconv import nn

    class Residual(torch.nn.Module):
        def __init__(self, body: Any, shortcut: Any) -> None:
            super().__init__()
            self.body, self.shortcut = body, shortcut

        def forward(self, x: Any) -> Any:
            return self.body(x) + (x if self.shortcut is None else self.shortcut(x))

    if isinstance(layer, nn.Sequential):
        return torch.nn.Sequential(*(_as_torch(child) for child in layer.own_children.values()))
    if isinstance(layer, nn.Residual):
        shortcut = layer.own_children.get("shortcut")
        return Residual(_as_torch(layer.own_children["body"]), None if shortcut is None else _as_torch(shortcut))
    if isinstance(layer, nn.Conv2d):
        sizes = layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding
        made = torch.nn.Conv2d(*sizes, bias=layer.bias is not None)
    elif isinstance(layer, nn.BatchNorm2d):
        made = torch.nn.BatchNorm2d(len(layer.weight))
    elif isinstance(layer, nn.Linear):
        made = torch.nn.Linear(layer.weight.shape[1], layer.weight.shape[0])
    elif isinstance(layer, nn.MaxPool2d):
        made = torch.nn.MaxPool2d(2)
    elif isinstance(layer, nn.AdaptiveAvgPool2d):
        made = torch.nn.AdaptiveAvgPool2d(1)
    else:
        return {nn.ReLU: torch.nn.ReLU, nn.Flatten: torch.nn.Flatten}[type(layer)]()
    with torch.no_grad():
        for key, value in layer.named_parameters().items():
            getattr(made, key).copy_(torch.from_numpy(np.array(value.value)))
    return made
