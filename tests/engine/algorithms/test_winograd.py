"""Winograd: matrices in exact fractions, operation counts, a bound that holds for any data, the same bits always."""

import dataclasses
import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from strategies import targets

from starconv import Problem, plan, reference
from starconv.engine.algorithms import direct, winograd
from starconv.engine.algorithms.winograd_transforms import F2_3, F2_5, F4_2, F4_3, Strided, Tile, Transform
from starconv.engine.emit.target import Target, named_target
from starconv.engine.runtime import jit, memory, threads

Array = np.ndarray[Any, np.dtype[Any]]
TRANSFORMS = (F2_3, F4_3, F2_5, F4_2)
STRIDED = Strided(F4_2)
BOTH = pytest.mark.parametrize("tile", TRANSFORMS, ids=["F(2,3)", "F(4,3)", "F(2,5)", "F(4,2)"])
EVERY = pytest.mark.parametrize("tile", [*TRANSFORMS, STRIDED], ids=["F(2,3)", "F(4,3)", "F(2,5)", "F(4,2)", "strided"])
native = pytest.mark.skipif(jit.available() is not None, reason="no compiled code on this machine")
SERVER = dataclasses.replace(named_target("avx2"), l1_bytes=32 << 10, l2_bytes=512 << 10, l3_bytes=32 << 20, cores=2)


class Counted:
    """An exact number that counts the operations that led to it and its like."""

    operations = 0

    def __init__(self, value: Fraction) -> None:
        self.value = value

    def _make(self, value: Fraction) -> "Counted":
        Counted.operations += 1
        return Counted(value)

    def __add__(self, other: "Counted") -> "Counted":
        return self._make(self.value + other.value)

    def __sub__(self, other: "Counted") -> "Counted":
        return self._make(self.value - other.value)

    def __mul__(self, other: "Counted") -> "Counted":
        return self._make(self.value * other.value)

    def times_plus(self, factor: "Counted", addend: "Counted") -> "Counted":
        return self._make(self.value * factor.value + addend.value)


def times(matrix: list[list[Fraction]], vector: list[Fraction]) -> list[Fraction]:
    return [sum((a * b for a, b in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]


def numbers(count: int, seed: int) -> list[Fraction]:
    return [Fraction(int(value)) for value in np.random.default_rng(seed).integers(-99, 100, count)]


@BOTH
def test_the_matrices_compute_a_correlation(tile: Transform) -> None:
    for seed in range(5):
        d, g = numbers(tile.n, seed), numbers(tile.taps, seed + 50)
        products = [u * v for u, v in zip(times(tile.kernel_matrix, g), times(tile.input_matrix, d), strict=True)]
        assert times(tile.output_matrix, products) == [
            sum(d[i + k] * g[k] for k in range(tile.taps)) for i in range(tile.m)
        ]


@pytest.mark.parametrize(
    ("tile", "kernel", "entry", "output"), [(F2_3, 5, 4, 4), (F4_3, 9, 12, 12), (F2_5, 13, 12, 8), (F4_2, 6, 11, 8)]
)
def test_the_short_forms_are_the_matrices(tile: Transform, kernel: int, entry: int, output: int) -> None:
    forms = [
        (tile.kernel, tile.kernel_matrix, tile.taps, kernel),
        (tile.input, tile.input_matrix, tile.n, entry),
        (tile.output, tile.output_matrix, tile.n, output),
    ]
    for form, matrix, length, operations in forms:
        vector = numbers(length, length)
        Counted.operations = 0
        assert [result.value for result in form([Counted(v) for v in vector], Counted)] == times(matrix, vector)
        assert Counted.operations == operations


def test_a_strided_tile_computes_a_strided_correlation() -> None:
    """In few operations, with products of as few different numbers as it says."""
    for seed in range(5):
        d, g = numbers(STRIDED.window, seed), numbers(3, seed + 50)
        kernel = STRIDED.kernel([Counted(v) for v in g], Counted)
        assert len(kernel) == STRIDED.numbers
        Counted.operations = 0
        values = STRIDED.input([Counted(v) for v in d], Counted)
        assert Counted.operations == 11
        products = [Counted(kernel[min(j, len(kernel) - 1)].value * value.value) for j, value in enumerate(values)]
        assert len(products) == STRIDED.n
        Counted.operations = 0
        outputs = STRIDED.output(products, Counted)
        assert Counted.operations == 12
        assert [output.value for output in outputs] == [
            sum(d[2 * i + k] * g[k] for k in range(3)) for i in range(STRIDED.m)
        ]


@BOTH
def test_the_adjoints_are_the_transposed_matrices(tile: Transform) -> None:
    for form, matrix in ((tile.output_adjoint, tile.output_matrix), (tile.kernel_adjoint, tile.kernel_matrix)):
        vector = numbers(len(matrix), 3)
        transposed = [list(column) for column in zip(*matrix, strict=True)]
        assert [result.value for result in form([Counted(v) for v in vector], Counted)] == times(transposed, vector)


@BOTH
def test_data_meets_only_coefficients_that_float32_has(tile: Transform) -> None:
    for matrix in (tile.input_matrix, tile.output_matrix):
        assert all(Fraction(float(np.float32(float(entry)))) == entry for row in matrix for entry in row)


def sized(text: str, tile: Tile) -> Problem:
    """The problem, with kernels of the tile's size, and an output of the same size; or with the tile's stride."""
    problem = Problem.parse(text)
    axes = (
        dataclasses.replace(axis, input=axis.input + tile.taps - 3, kernel=tile.taps, stride=tile.stride)
        for axis in problem.axes
    )
    return dataclasses.replace(problem, axes=tuple(axes))


def computed(
    problem: Problem, x: Array, w: Array, b: Array | None, target: Target, tile: Tile, fill: float = 0
) -> Array:
    solution = winograd.WinogradSolution(problem, target, tile)
    out = np.full(problem.output_shape, np.nan, np.float32)
    solution.run(x, solution.prepare(w, b, fill), out)
    return out


def drawn(problem: Problem, seed: int = 0) -> tuple[Array, Array, Array | None]:
    generator = np.random.default_rng(seed)
    x, w, b = (
        generator.standard_normal(shape).astype(np.float32)
        for shape in (problem.input_shape, problem.weight_shape, (problem.out_channels,))
    )
    return x, w, b if problem.bias else None


def magnitudes(tile: Transform, x: Array, w: Array) -> Array:
    """The largest result of every tile if nothing cancelled anywhere: |A^T| (sum |G| |w| |G^T| * |B^T| |x| |B|) |A|."""
    kernel, entry, output = (
        np.abs(np.array(matrix, float)) for matrix in (tile.kernel_matrix, tile.input_matrix, tile.output_matrix)
    )
    u = np.einsum("ia,kcab,jb->ijkc", kernel, np.abs(w), kernel)
    height, width = (size - tile.taps + 1 for size in x.shape[2:])
    result = np.zeros((x.shape[0], w.shape[0], height, width))
    for i in range(0, result.shape[2], tile.m):
        for j in range(0, result.shape[3], tile.m):
            d = np.zeros((*x.shape[:2], tile.n, tile.n))
            part = np.abs(x[:, :, i : i + tile.n, j : j + tile.n])
            d[:, :, : part.shape[2], : part.shape[3]] = part
            products = np.einsum("ijkc,ncij->nkij", u, np.einsum("ia,ncab,jb->ncij", entry, d, entry))
            y = np.einsum("ai,nkij,bj->nkab", output, products, output)
            place = result[:, :, i : i + tile.m, j : j + tile.m]
            place[...] = y[:, :, : place.shape[2], : place.shape[3]]
    return result


@native
@BOTH
@pytest.mark.parametrize("kind", ["normal", "opposite corners"])
def test_the_error_is_bounded_for_any_data(tile: Transform, kind: str) -> None:
    """Every number on the way is rounded as often as there are channels, and some 30 times in the transforms."""
    problem = sized("conv2d x=2x24x11x13 w=16x24x3x3", tile)
    x, w, _ = drawn(problem)
    if kind == "opposite corners":  # large numbers that never meet in a product of the definition
        x[:, :, 0, 0] *= 1e4
        w[:, :, -1, -1] *= 1e4
    answer = reference.convolution(problem, x, w)
    bound = (24 + 30) * 2**-24 * magnitudes(tile, x, w)
    for target in targets():
        assert target is not None
        error = np.abs(computed(problem, x, w, None, target, tile) - answer)
        assert (error <= bound).all()


@native
@pytest.mark.parametrize(("tile", "most"), [(F2_3, 2.0), (F4_3, 6.5), (F2_5, 6.5), (STRIDED, 3.0)])
def test_the_error_is_a_small_multiple_of_directs(tile: Tile, most: float) -> None:
    problem = sized("conv2d x=1x256x10x10 w=16x256x3x3", tile)
    x, w, _ = drawn(problem)
    answer = reference.convolution(problem, x, w)
    target = targets()[0]
    assert target is not None
    plain = plan(problem, algorithm="direct", target=target)(x, w)
    errors = [
        np.sqrt(((result - answer) ** 2).mean()) for result in (computed(problem, x, w, None, target, tile), plain)
    ]
    assert errors[0] < most * errors[1]
    assert errors[0] / np.sqrt((answer**2).mean()) < 2e-6


TAILS = [f"conv2d x=1x8x{height}x{width} w=8x8x3x3" for height in (3, 4, 6, 7) for width in (3, 5, 6, 9, 10)]
LAYERS = [
    *TAILS,
    "conv2d x=2x8x5x150 w=8x8x3x3 padding=1",
    "conv2d x=9x8x5x5 w=8x8x3x3 padding=1 bias relu channels_last",
    "conv2d x=3x33x8x17 w=51x11x3x3 groups=3 padding=2:0x1:3 bias",
    "conv2d x=2x17x9x9 w=24x17x3x3 padding=1 border=reflect",
    "conv2d x=2x40x6x7 w=40x40x3x3 padding=4x4 border=symmetric channels_last",
    "conv2d x=1x16x10x12 w=33x16x3x3 padding=3 relu",
]


@native
@EVERY
@pytest.mark.parametrize("text", LAYERS)
def test_tails_borders_groups(text: str, tile: Tile) -> None:
    problem = sized(text, tile)
    x, w, b = drawn(problem)
    fill = 0.5 if problem.border == "constant" else 0.0
    answer = reference.convolution(problem, x, w, b, fill=fill)
    scale = reference.convolution(problem, np.abs(x), np.abs(w), None if b is None else np.abs(b), fill=fill)
    for target in targets():
        assert target is not None
        result = computed(problem, x, w, b, target, tile, fill)
        assert np.abs(result - answer).max() <= winograd.F4.error_bound(problem) * scale.max()


@native
@EVERY
def test_neither_threads_nor_cuts_change_a_bit(tile: Tile, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = sized("conv2d x=5x19x14x23 w=50x19x3x3 padding=1 bias", tile)
    x, w, b = drawn(problem)
    target = targets()[0]
    assert target is not None
    rows, columns = (-(-size // tile.m) for size in problem.output_shape[2:])
    expected = computed(problem, x, w, b, target, tile)
    before = threads.get_num_threads()
    try:
        for count in (1, 2, 3, 7):
            threads.set_num_threads(count)
            assert computed(problem, x, w, b, target, tile).tobytes() == expected.tobytes()
            for part in ((1, 1, 1, 1), (1, 1, 3, 2), (1, 2, columns, 1), (2, rows, columns, 3)):
                shape = winograd.Cut(tile, rows, columns, *part, 0.0)
                monkeypatch.setattr(winograd, "cut", lambda *_, shape=shape: shape)
                assert computed(problem, x, w, b, target, tile).tobytes() == expected.tobytes()
            monkeypatch.undo()
    finally:
        threads.set_num_threads(before)


@native
def test_weights_memory_is_handed_on_only_when_free() -> None:
    problem = Problem.parse("conv2d x=1x64x8x8 w=64x64x3x3")
    x, w, _ = drawn(problem)
    chosen = plan(problem, algorithm="winograd")
    prepared = [chosen.prepare(w * factor) for factor in np.array([1, 2, 3], np.float32)]
    results = [one(x) for one in prepared]
    assert (results[1] == 2 * results[0]).all()
    again = prepared.pop(0)(x)
    with memory.scratch(chosen.solution.transformed.bytes) as loan:
        loan.array[...] = 0xFF
        assert (prepared[0](x) == 2 * again).all()
    np.testing.assert_array_equal(prepared[1](x), results[2])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("conv2d x=1x16x8x8 w=16x16x3x3 precision=strict", "strict"),
        ("conv2d x=1x16x8x8 w=16x16x3x3 dtype=float64", "float64"),
        ("conv2d x=1x16x8x8 w=16x16x3x3 stride=2", "stride 1"),
        ("conv2d x=1x16x8x8 w=16x16x3x3 dilation=1x2", "dilation 1"),
        ("conv2d x=1x16x8x8 w=16x16x3x5", "3x3"),
        ("conv1d x=1x16x8 w=16x16x3", "3x3"),
        ("conv2d x=1x16x8x8 w=32x4x3x3 groups=4", "fewer than 8 channels"),
        ("conv2d x=1x16x8x8 w=4x16x3x3", "fewer than 8 channels or kernels"),
        ("input_grad2d x=1x16x8x8 w=16x16x3x3", "gradients"),
        ("conv2d x=0x16x8x8 w=16x16x3x3", "nothing"),
        ("conv2d x=1x512x5x5 w=512x512x3x3 padding=1", "weights of 16 MiB"),
    ],
)
def test_refusals_say_why(text: str, reason: str) -> None:
    assert reason in str(winograd.F2.refuses(Problem.parse(text), SERVER))
    assert winograd.F4.refuses(Problem.parse(text), None) == "no compiled code on this machine"


@pytest.mark.parametrize(
    ("text", "tile"),
    [
        ("conv2d x=1x64x56x56 w=64x64x3x3 padding=1", F4_3),
        ("conv2d x=1x128x28x28 w=128x128x3x3 padding=1", F4_3),
        ("conv2d x=16x256x14x14 w=256x256x3x3 padding=1", F4_3),
        ("conv2d x=1x256x28x28 w=512x256x3x3 padding=1", F4_3),
        ("conv2d x=1x64x56x56 w=64x64x5x5 padding=2", F2_5),
        ("conv2d x=1x64x5x5 w=64x64x3x3 padding=1", None),
        ("conv2d x=1x512x7x7 w=512x512x3x3 padding=1", None),
        ("conv2d x=1x256x14x14 w=512x256x3x3 stride=2 padding=1", None),
    ],
)
def test_the_model_knows_where_it_pays(text: str, tile: Transform | None) -> None:
    """On small pictures the transformed weights cost more than the arithmetic saves, and direct is cheaper."""
    problem = Problem.parse(text)
    rows = [
        row
        for row in (winograd.F2, winograd.F4, winograd.FIVE, winograd.STRIDED)
        if row.refuses(problem, SERVER) is None
    ]
    best = min(rows, key=lambda row: row.cost(problem, SERVER))
    ratio = direct.cost(problem, SERVER) / best.cost(problem, SERVER)
    if tile is None:
        assert ratio < 1.3
    else:
        assert ratio > 1.5
        assert best.tile == tile


def test_tasks_cover_all_tiles_and_fit_the_threads() -> None:
    for text in LAYERS:
        for limit, tile in itertools.product((1, 2, 8), (*TRANSFORMS, STRIDED)):
            problem = sized(text, tile)
            shape = winograd.cut(problem, SERVER, limit, tile)
            assert shape.tiles <= winograd.MOST_TILES
            assert 1 <= shape.pictures <= problem.batch
            assert 1 <= shape.rows <= shape.tile_rows
            assert 1 <= shape.columns <= shape.tile_columns


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("winograd", "conv2d x=1x16x19x21 w=16x16x3x3 padding=1"),
        ("winograd2", "conv2d x=1x16x19x21 w=16x16x3x3 padding=1"),
        ("winograd5", "conv2d x=1x16x19x21 w=16x16x5x5 padding=2"),
        ("winograd_strided", "conv2d x=1x16x19x21 w=16x16x3x3 stride=2 padding=1"),
    ],
)
def test_what_is_not_finite_reaches_three_pixels_further_at_most(name: str, text: str, number: float) -> None:
    """As the docstring of `conv2d` says; all other outputs have the bits that they have without it."""
    problem = Problem.parse(text)
    chosen, exact = plan(problem, algorithm=name), plan(problem, algorithm="direct")
    generator = np.random.default_rng(1)
    x, w = (generator.standard_normal(shape).astype(np.float32) for shape in problem.operand_shapes)
    whole = chosen(x, w)
    for row in range(5, 13):
        for column in range(5, 13):
            spoilt = x.copy()
            spoilt[0, 3, row, column] = number
            near = ~np.isfinite(exact(spoilt, w)[0, 0])
            rows, columns = np.nonzero(near)
            near[max(rows.min() - 3, 0) : rows.max() + 4, max(columns.min() - 3, 0) : columns.max() + 4] = True
            np.testing.assert_array_equal(chosen(spoilt, w)[0, :, ~near], whole[0, :, ~near])
