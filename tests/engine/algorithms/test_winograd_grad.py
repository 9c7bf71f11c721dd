"""Weight gradients by Winograd's tiles: how they are cut, what their rounding errors are, where they pay."""

from dataclasses import replace

import numpy as np
import pytest
from row_checks import exact_between_guard_pages
from strategies import operands

from starconv import Problem, get_num_threads, plan, set_num_threads
from starconv.engine.algorithms import weight_grad, winograd_grad
from starconv.engine.emit.target import host_target, named_target

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")


def gradient(problem: Problem, x: np.ndarray, g: np.ndarray) -> np.ndarray:
    """In float64, by the definition: dK[s, r, p, q] = sum X[n, r, i + p, j + q] G[n, s, i, j]."""
    pads = [(0, 0), (0, 0), *((axis.before, axis.after) for axis in problem.axes)]
    x, g = np.pad(x.astype(np.float64), pads), g.astype(np.float64)
    height, width = g.shape[2:]
    down, across = problem.weight_shape[2:]
    return np.stack(
        [
            np.stack([np.einsum("nchw,nkhw->kc", x[:, :, p : p + height, q : q + width], g) for q in range(across)], -1)
            for p in range(down)
        ],
        axis=2,
    )


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest, in parts of the largest number."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("weight_grad2d x=4x16x32x32 w=16x16x3x3 padding=1", 3e-6),
        ("weight_grad2d x=8x64x8x8 w=64x64x3x3 padding=1", 3e-6),
        ("weight_grad2d x=3x24x17x31 w=40x24x3x3 padding=1 channels_last", 3e-6),
        ("weight_grad2d x=16x16x14x14 w=32x16x5x5 padding=2", 3e-6),
    ],
)
def test_the_error_is_a_small_part_of_the_result(text: str, most: float) -> None:
    problem = Problem.parse(text)
    rng = np.random.default_rng(1)
    x, g = (rng.standard_normal(shape).astype(np.float32) for shape in plan(problem).shapes[:2])
    exact = gradient(problem, x, g)
    error = plan(problem, algorithm="winograd_grad")(x, g) - exact
    assert np.sqrt(np.mean(error**2)) < most * np.sqrt(np.mean(exact**2))


TAILS = [
    "weight_grad2d x=5x16x9x13 w=8x16x3x3",  # tiles that reach past the end, an odd number of pictures
    "weight_grad2d x=2x9x30x30 w=21x9x3x3 padding=1",  # channels and kernels that fill no vector
    "weight_grad2d x=3x32x12x12 w=48x16x3x3 padding=2 groups=2",
    "weight_grad2d x=2x16x10x11 w=16x16x3x3 padding=1 border=reflect",
    "weight_grad2d x=3x16x9x13 w=24x16x5x5 padding=2",
]


@pytest.mark.parametrize("text", TAILS)
@pytest.mark.parametrize("last", [False, True])
def test_right_between_guard_pages(text: str, last: bool) -> None:
    exact_between_guard_pages(winograd_grad, text, last, within=1e-5)


@pytest.mark.parametrize("text", TAILS)
@pytest.mark.parametrize("last", [False, True])
def test_tails_borders_groups_and_layouts(text: str, last: bool) -> None:
    problem = replace(Problem.parse(text), channels_last=last)
    given = operands(problem, 3)
    found = plan(problem, algorithm="winograd_grad")(given.first, given.second)
    assert difference(found, plan(problem, algorithm="numpy")(given.first, given.second)) < 1e-5


@pytest.mark.parametrize("kernels", [16, 256])
def test_neither_threads_nor_pieces_change_what_is_summed(monkeypatch: pytest.MonkeyPatch, kernels: int) -> None:
    problem = Problem.parse(f"weight_grad2d x=15x32x40x43 w={kernels}x32x3x3 padding=1")
    target = host_target()
    given = operands(problem, 5, integers=False)
    before = get_num_threads()
    bits = set()
    try:
        for threads in (1, 2, 3, 5):
            set_num_threads(threads)
            solution = winograd_grad.build(problem, target)
            out = np.empty(problem.weight_shape, np.float32)
            solution.run(given.first, solution.prepare(given.second, None, 0.0), out)
            bits.add(out.tobytes())
    finally:
        set_num_threads(before)
    assert len(bits) == 1
    cut = winograd_grad.Cut.of(problem, target)
    assert cut.chunk < cut.units
    assert cut.apart == (kernels == 16) == (cut.partials > 1)
    monkeypatch.setattr(winograd_grad, "SUMS_BYTES", cut.sums_bytes // 2)
    pieces = winograd_grad.build(problem, target)
    assert len(pieces.pieces) > 1
    result = np.empty(problem.weight_shape, np.float32)
    pieces.run(given.first, pieces.prepare(given.second, None, 0.0), result)
    assert difference(result, np.frombuffer(bits.pop(), np.float32).reshape(result.shape)) < 1e-5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("weight_grad2d x=1x16x9x9 w=16x16x3x3 dtype=float64", "float32"),
        ("weight_grad2d x=1x16x9x9 w=16x16x7x7", "3x3 and 5x5 kernels"),
        ("weight_grad2d x=1x16x9x9 w=16x16x3x3 stride=2", "stride 1"),
        ("weight_grad2d x=1x4x9x9 w=16x4x3x3", "fewer than 8"),
        ("weight_grad2d x=1x16x9x9 w=16x16x3x3 precision=strict", "strict"),
        ("conv2d x=1x16x9x9 w=16x16x3x3", "weight gradients"),
    ],
)
def test_refusals_say_why(text: str, reason: str) -> None:
    refusal = winograd_grad.refuses(Problem.parse(text), host_target())
    assert refusal is not None
    assert reason in refusal


@pytest.mark.parametrize("name", ["avx512", "avx2"])
def test_the_model_knows_where_it_pays(name: str) -> None:
    target = named_target(name)
    for text in (
        "weight_grad2d x=32x16x32x32 w=16x16x3x3 padding=1",
        "weight_grad2d x=16x64x56x56 w=64x64x3x3 padding=1",
        "weight_grad2d x=16x256x14x14 w=256x256x3x3 padding=1",
    ):
        problem = Problem.parse(text)
        assert winograd_grad.cost(problem, target) < weight_grad.cost(problem, target)
    few = Problem.parse("weight_grad2d x=1x512x4x4 w=512x512x3x3 padding=1")
    assert winograd_grad.cost(few, target) > weight_grad.cost(few, target)
