"""The code that algorithms emit, read as text: for processors that are not here too, and without running it."""

import re
import sys
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pytest
from strategies import operands

from starconv import Problem
from starconv.engine.algorithms import TABLE, Compound, fft, lowrank_kernels, panels, weave
from starconv.engine.algorithms.finish import Finish
from starconv.engine.emit.target import LEVELS, host_target, named_target, runs_here
from starconv.engine.kernels import ELEMENTS
from starconv.engine.runtime import jit

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

PROBLEMS = [
    "conv2d x=1x64x56x56 w=64x64x3x3 padding=1 bias",
    "conv2d x=1x512x7x7 w=512x512x3x3 padding=1 relu channels_last",
    "conv2d x=1x64x56x56 w=256x64x1x1",
    "conv2d x=1x40x9x16 w=24x40x1x1 channels_last bias relu",
    "conv2d x=1x3x224x224 w=64x3x7x7 stride=2 padding=3 bias relu",
    "conv2d x=1x32x56x56 w=32x1x3x3 padding=1 groups=32",
    "conv2d x=1x48x14x14 w=48x1x3x3 stride=2 padding=1 groups=48 channels_last relu",
    "conv2d x=1x1x256x256 w=1x1x31x31 padding=15",
    "conv2d x=8x1x28x28 w=8x1x5x5",
    "conv2d x=1x5x9x9 w=3x5x3x3 dtype=float64",
    "conv1d x=1x1x1000 w=1x1x31",
    "conv2d x=2x16x14x14 w=16x16x5x5 padding=2 bias",
    "conv2d x=2x16x13x15 w=24x16x3x3 stride=2 padding=1 bias relu",
    "conv3d x=1x4x8x8x17 w=8x4x3x3x3",
    "input_grad2d x=1x4x17x33 w=8x4x4x4 stride=2 padding=1",
    "weight_grad2d x=1x16x14x14 w=16x16x3x3 padding=1",
    "weight_grad2d x=2x48x14x14 w=48x1x3x3 padding=1 groups=48",
    "weight_grad2d x=2x48x14x14 w=48x1x3x3 padding=1 groups=48 channels_last",
    "weight_grad2d x=2x48x14x14 w=32x48x1x1 channels_last",
]


class Enough(Exception):
    """Raised in place of linking a module: its text is all that is wanted."""


@lru_cache
def modules(name: str, algorithm: str, text: str, source: str = "same") -> tuple[str, ...]:
    """The texts of all modules that `algorithm` emits for a problem on the target `name`; nothing is run."""
    problem, target = Problem.parse(text), named_target(name)
    row = next(row for row in TABLE if algorithm == row.NAME)
    if row.refuses(problem, target) is not None:
        return ()
    texts: list[str] = []

    def collected(ir: object, *, features: str, triple: str | None = None) -> object:
        assert features == target.features
        texts.append(str(ir))
        return Addresses()

    solution = row.build(problem, target)
    given = operands(problem, 0)
    first = given.first if source == "same" else given.first.astype(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "compile_module", collected)
        patch.setattr("starconv.engine.runtime.threads.run", lambda *arguments: None)
        forget()
        try:
            prepared = solution.prepare(given.second, given.bias, 0.0)
            solution.run(first, prepared, np.empty(problem.result_shape, problem.dtype))
        finally:
            forget()
    return tuple(texts)


def forget() -> None:
    """Clear what algorithms remember of compiled functions, lest those of this file be called."""
    for module in list(sys.modules.values()):
        if module.__name__.startswith("starconv.engine.algorithms"):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


class Addresses:
    """Stands for a module of a processor that is not here."""

    def address(self, name: str) -> int:
        return 0


def compiled_rows() -> list[str]:
    """Rows that emit code of their own."""
    return [row.NAME for row in TABLE if row.NAME != "numpy" and not isinstance(row, Compound)]


@pytest.mark.parametrize("name", [name for name in LEVELS if not runs_here(name)])
@pytest.mark.parametrize("algorithm", compiled_rows())
def test_every_module_compiles_for_processors_that_are_not_here(algorithm: str, name: str) -> None:
    target, texts = named_target(name), set()
    for number, problem in enumerate(PROBLEMS):
        texts.update(modules(name, algorithm, problem, ["same", "uint8", "int16"][number % 3]))
    if not texts and any(modules(other, algorithm, problem) for other in LEVELS for problem in PROBLEMS):
        pytest.skip(f"{algorithm} refuses {name}")
    assert texts, "no problem of this file is one of the row's"
    for text in sorted(texts):
        assert len(jit.compile_object(text, target.triple, target.features)) > 500


@pytest.mark.parametrize("name", [name for name in LEVELS if not runs_here(name)])
def test_what_rows_of_other_kinds_emit_compiles_for_processors_that_are_not_here(name: str) -> None:
    target, finish = named_target(name), Finish(floor=True, ceiling=False, residual=False)
    texts = [lowrank_kernels.module(target, element, finish) for element in ELEMENTS.values()]
    for last, phases in ((True, 0), (False, 1), (False, 2), (False, 3)):
        texts += [str(weave._module(target, element, last, phases)) for element in ELEMENTS.values()]
    texts += [str(panels._turning_module(target, element)) for element in ELEMENTS.values()]
    texts += [fft.forward_module(target, "float", "float", single, finish) for single in (False, True)]
    texts += [fft.weight_module(target, "float")]
    for text in texts:
        assert len(jit.compile_object(str(text), target.triple, target.features)) > 300


WIDE = ["direct", "stencil"]
"""Rows whose inner loops the next tests read."""


@lru_cache
def listing(name: str, algorithm: str, text: str) -> str:
    """The assembly of all modules of `algorithm` for a problem on the target `name`."""
    target = named_target(name)
    return "\n".join(jit.assembly(text, target.triple, target.features) for text in modules(name, algorithm, text))


@pytest.mark.parametrize("algorithm", WIDE)
def test_vectors_are_as_wide_as_the_processor_has_them(algorithm: str) -> None:
    code = {name: listing(name, algorithm, PROBLEMS[0]) for name in LEVELS}
    assert len(re.findall(r"vfmadd\w+ps.*%zmm", code["avx512"])) >= 12
    assert len(re.findall(r"vfmadd\w+ps.*%ymm", code["avx2"])) >= 12
    assert "zmm" not in code["avx2"]
    assert not re.search(r"[yz]mm|\tv[a-z]", code["sse"])
    assert len(re.findall(r"mulps", code["sse"])) >= 12
    assert len(re.findall(r"fmla\tv\d+\.4s", code["neon"])) >= 12


def inner_loops(code: str) -> Iterator[list[str]]:
    """The lines of every loop that has no loop or branch target inside."""
    lines = code.split("\n")
    labels = {found[1]: number for number, line in enumerate(lines) if (found := re.match(r"(\.?L\w+):", line))}
    for number, line in enumerate(lines):
        jump = re.match(r"\t(?:j\w+|b|b\.\w+|cbn?z\s+\w+,|tbn?z\s+\w+, #\d+,)\s+(\.?L\w+)", line)
        if jump and labels.get(jump[1], number) < number:
            body = lines[labels[jump[1]] + 1 : number]
            if not any(re.match(r"\.?L\w+:", inside) for inside in body):
                yield body


HOT = [PROBLEMS[number] for number in (0, 2, 3, 4, 7)]
MULTIPLY_ADD = re.compile(r"\t(vfmadd|fmla)")
ON_THE_STACK = re.compile(r"\(%rsp\).*%[xyz]mm|%[xyz]mm.*\(%rsp\)|\t(ld|st)[rp]\s+q.*\[sp")


@pytest.mark.parametrize(
    ("algorithm", "name", "most"),
    [(row, name, 0.0) for row in WIDE for name in ("neon",)]
    + [("direct", name, 0.0) for name in ("avx512", "avx2")]
    # A third vector of columns or a second pair of kernels is worth a sum that goes through the stack now and then.
    + [("stencil", name, 0.2) for name in ("avx512", "avx2")],
)
def test_inner_loops_keep_their_sums_in_registers(algorithm: str, name: str, most: float) -> None:
    for text in HOT:
        bodies = list(inner_loops(listing(name, algorithm, text)))
        adds = sum(bool(MULTIPLY_ADD.match(line)) for body in bodies for line in body)
        spills = sum(bool(ON_THE_STACK.search(line)) for body in bodies for line in body)
        assert spills <= most * adds, f"{spills} vectors go through the stack in {adds} multiply-adds of {text}"
    assert adds >= 20, "the hot loops were not found"


def test_the_search_for_spills_finds_them() -> None:
    loop = ".LBB0_1:\n\tvmovaps\t64(%rsp), %ymm2\n\tvfmadd231ps\t%ymm0, %ymm1, %ymm2\n\tjne\t.LBB0_1\n"
    (body,) = inner_loops(loop)
    assert [bool(ON_THE_STACK.search(line)) for line in body] == [True, False]
    (body,) = inner_loops(loop.replace("vmovaps\t64(%rsp), %ymm2", "str\tq22, [sp, #144]"))
    assert ON_THE_STACK.search(body[0])
