"""The rows of the shape files: problems shared by benchmarks and tests, and the operands that go with them.

A file of ``bench/shapes`` is a suite. Each line is one problem string (see :mod:`starconv.problem`); after ``#`` comes
a note, in which ``x4`` says that the network has four such layers and ``gaussian`` that the kernel is one, of rank 1.
"""

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from starconv.problem import Problem

FOLDER = Path(__file__).with_name("shapes")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a shape file."""

    suite: str
    problem: Problem
    note: str = ""

    @property
    def name(self) -> str:
        """The problem's string, with the kernel's kind where that is part of the work."""
        return f"{self.problem} gaussian" if self.gaussian else str(self.problem)

    @property
    def count(self) -> int:
        """How many such layers the network has."""
        times = re.search(r"\bx(\d+)\b", self.note)
        return int(times[1]) if times else 1

    @property
    def gaussian(self) -> bool:
        """Whether the kernel is a Gaussian, an outer product of two vectors."""
        return re.search(r"\bgaussian\b", self.note) is not None

    def with_batch(self, batch: int) -> "Row":
        """The same row for another number of pictures."""
        return replace(self, problem=replace(self.problem, batch=batch))


@dataclass(frozen=True, slots=True)
class Operands:
    """The arrays of one row: two operands in the problem's order, and a bias or None."""

    first: NDArray[np.generic]
    second: NDArray[np.generic]
    bias: NDArray[np.generic] | None


def suites() -> list[str]:
    """Names of all shape files."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def read(suite: str) -> list[Row]:
    """The rows of one shape file.

    Raises:
        ValueError: a line that is no problem, with the file's name and the line's number.
    """
    rows = []
    for number, line in enumerate((FOLDER / f"{suite}.txt").read_text(encoding="utf-8").splitlines(), start=1):
        text, _, note = (part.strip() for part in line.partition("#"))
        if not text:
            continue
        try:
            rows.append(Row(suite, Problem.parse(text), note))
        except (TypeError, ValueError) as error:
            raise ValueError(f"bench/shapes/{suite}.txt:{number}: {error}") from error
    return rows


def select(names: Iterable[str] = (), substring: str = "", batches: Iterable[int] = ()) -> list[Row]:
    """Rows of the named suites (all if none) whose name or note contains `substring`, for every batch size given."""
    rows = [row for suite in (list(names) or suites()) for row in read(suite)]
    batches = list(batches)
    if batches:
        rows = [row.with_batch(batch) for row in rows for batch in batches]
    return [row for row in rows if substring in row.name or substring in row.note]


def operands(row: Row) -> Operands:
    """Numbers for a row, the same ones every time; kernels are scaled so that results are about one."""
    problem = row.problem
    random = np.random.default_rng(zlib.crc32(row.name.encode()))
    first, second = (_random(random, shape, problem.dtype) for shape in problem.operand_shapes)
    if problem.operation != "weight_grad":
        taps = np.prod(problem.weight_shape[1:])
        second = _gaussian(problem) if row.gaussian else second * np.asarray(taps**-0.5, second.dtype)
    if problem.channels_last:
        first = channels_last(first)
        second = channels_last(second) if problem.operation == "weight_grad" else second
    bias = _random(random, problem.result_shape[1:2], problem.dtype) if problem.bias else None
    return Operands(first, second, bias)


def _random(random: np.random.Generator, shape: tuple[int, ...], dtype: str) -> NDArray[np.generic]:
    """Uniform from -1 to 1, or integers from -8 to 8; made in place, without a second array of the size."""
    if dtype == "int64":
        return random.integers(-8, 9, shape)
    values = random.random(shape, np.dtype(dtype).type)
    values *= 2
    values -= 1
    return values


def _gaussian(problem: Problem) -> NDArray[np.generic]:
    """Gaussian kernels that sum to 1, with a standard deviation of a sixth of the kernel's size."""
    kernel = np.ones((), "float64")
    for axis in problem.axes:
        positions = np.arange(axis.kernel) - (axis.kernel - 1) / 2
        values = np.exp(-0.5 * (positions / (axis.kernel / 6)) ** 2)
        kernel = np.multiply.outer(kernel, values / values.sum())
    return np.broadcast_to(kernel, problem.weight_shape).astype(problem.dtype)


def channels_last(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """The same values with the channels next to each other in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)
