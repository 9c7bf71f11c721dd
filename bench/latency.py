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
problem = sc.Problem.parse(sys.argv[1])
arrays = [np.ones(shape, problem.dtype) for shape in problem.operand_shapes]
geometry = [(axis.stride, (axis.before, axis.after), axis.dilation) for axis in problem.axes]
stride, padding, dilation = zip(*geometry)
start = time.perf_counter()
sc.conv2d(*arrays, None, stride, padding, dilation, problem.groups)
first = time.perf_counter() - start
rest = []
for _ in range(5):
    start = time.perf_counter()
    sc.conv2d(*arrays, None, stride, padding, dilation, problem.groups)
    rest.append(time.perf_counter() - start)
print(first - min(rest))
"""
"""Prints how much longer the first call took than a later one."""

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
    """Cold and cached first calls of each problem, in fresh processes."""
    figures = []
    for problem in problems:
        cold, cached = [], []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                environment = {"STARCONV_CACHE_DIR": folder}
                cold += numbers(FIRST_CALL, problem, environment=environment)
                cached += numbers(FIRST_CALL, problem, environment=environment)
        for name, values, target in (("cold", cold, 150.0), ("cached", cached, 10.0)):
            value = 1e3 * statistics.median(values)
            figures.append(Figure("latency", f"first call, {name}: {problem}", value, "ms", target))
    return figures
