"""What is waited for once: importing starconv, and the first call of a new shape with an empty and a filled cache."""

import statistics
import tempfile

from .children import numbers
from .report import Figure

IMPORT = """
import time
start = time.perf_counter()
{}
print(time.perf_counter() - start)
"""
"""Prints the seconds that an import takes in a process that has imported nothing else."""

FIRST_CALL = """
import sys, time
import numpy as np
import starconv as sc

def seconds(problem):
    arrays = [np.ones(shape, problem.dtype) for shape in problem.operand_shapes]
    geometry = [(axis.stride, (axis.before, axis.after), axis.dilation) for axis in problem.axes]
    stride, padding, dilation = zip(*geometry)
    taken = []
    for _ in range(6):
        start = time.perf_counter()
        sc.conv2d(*arrays, None, stride, padding, dilation, problem.groups)
        taken.append(time.perf_counter() - start)
    return taken[0] - min(taken[1:])

print([seconds(sc.Problem.parse(text)) for text in sys.argv[1:]][-1])
"""
"""Prints how much longer the first call of the last problem took than a later one, after those of the others."""

ANOTHER = "conv2d x=1x4x9x9 w=5x4x3x3"
"""A problem whose call has the engine there when the next one comes."""

FIRST_CALLS = (
    "conv2d x=1x64x28x28 w=64x64x3x3 padding=1",
    "conv2d x=1x256x14x14 w=256x256x1x1",
    "conv2d x=1x3x64x64 w=64x3x7x7 stride=2 padding=3",
    "conv2d x=1x64x28x28 w=64x1x3x3 padding=1 groups=64",
    "conv2d x=1x1x256x256 w=1x1x7x7 padding=3",
)


def measure(check: bool = False) -> list[Figure]:
    """All figures; with `check`, every process once."""
    rounds = 1 if check else 7
    return [*imports(rounds), *first_calls(FIRST_CALLS[: 1 if check else None], rounds)]


def imports(rounds: int) -> list[Figure]:
    """Import time, and its ratio to the libraries that starconv stands on; alternating, medians."""
    lines = {
        "numpy and scipy": "import numpy, scipy",
        "numpy, scipy.sparse and scipy.fft": "import numpy, scipy.sparse, scipy.fft",
        "starconv": "import starconv",
    }
    seconds: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(rounds + 1):
        for name, line in lines.items():
            seconds[name] += numbers(IMPORT.format(line))
    # The first round brings the files into the page cache.
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    ratio = medians["starconv"] / medians["numpy and scipy"]
    return [
        *(Figure("latency", f"import {name}", 1e3 * value, "ms") for name, value in medians.items()),
        Figure("latency", "import starconv ÷ import numpy, scipy", ratio, "x", 1.5),
    ]


def first_calls(problems: tuple[str, ...], rounds: int) -> list[Figure]:
    """Cold and cached first calls of each problem, as the first of a process and as those of a new shape later on."""
    figures = []
    for problem in problems:
        for kind, calls in (("first call of a process", (problem,)), ("first call of a new shape", (ANOTHER, problem))):
            seconds: dict[str, list[float]] = {"cold": [], "cached": []}
            for _ in range(rounds):
                with tempfile.TemporaryDirectory() as folder:
                    for values in seconds.values():
                        values += numbers(FIRST_CALL, *calls, environment={"STARCONV_CACHE_DIR": folder})
            for name, target in (("cold", 150.0), ("cached", 10.0)):
                value = 1e3 * statistics.median(seconds[name])
                wanted = target if len(calls) > 1 else None
                figures.append(Figure("latency", f"{kind}, {name}: {problem}", value, "ms", wanted))
    return figures
