"""The emitters' language: every construct is compiled, run on each kind of processor there is here, and checked."""

import ctypes

import numpy as np
import pytest
from guarded import guarded

from starconv.engine.emit.ir import Function, Int, Registers, Vector, module_source, transposed
from starconv.engine.emit.target import LEVELS, Target, host_target, named_target, runs_here
from starconv.engine.runtime import jit

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")


@pytest.fixture(params=[name for name in LEVELS if runs_here(name)])
def target(request: pytest.FixtureRequest) -> Target:
    return named_target(request.param)


def call(f: Function, *arguments: int | np.ndarray) -> None:
    """Compile `f` and run it; an array stands for its address."""
    module = jit.compile_module(module_source([f]), features=f.target.features)
    numbers = [value if isinstance(value, int) else value.ctypes.data for value in arguments]
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(numbers))(module.address(f.name))(*numbers)


def scalar(value: Int) -> Vector:
    """An Int as the scalar that `store` takes."""
    return Vector(value.function, value.text, "i64", 1)


# -- loops -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    "bounds",
    [(0, 0, 1), (0, 1, 1), (0, 5, 1), (2, 9, 3), (3, 3, 2), (5, 2, 1), (0, 4, 4), (0, 8, 4), (-3, 4, 2), (0, 3, 7)],
)
def test_a_loop_is_a_range(target: Target, bounds: tuple[int, int, int], known: bool) -> None:
    start, stop, step = bounds
    f = Function("loop", target, ["seen", "start", "stop"])
    seen = f.pointer("seen", "i64")
    first, last = (f.number(start), f.number(stop)) if known else (f.integer("start"), f.integer("stop"))
    for i in f.loop(first, last, step):
        seen.at(i + 10).store(scalar(i + 1))
    found = np.zeros(40, np.int64)
    call(f, found, start, stop)
    wanted = np.zeros(40, np.int64)
    for i in range(start, stop, step):
        wanted[i + 10] = i + 1
    np.testing.assert_array_equal(found, wanted)


def test_a_loop_that_runs_once_or_never_is_no_loop(target: Target) -> None:
    f = Function("none", target, ["n"])
    assert [i.known for i in f.loop(4, 4)] == []
    assert [i.known for i in f.loop(4, 5)] == [4]
    assert [i.known for i in f.loop(0, 3, 8)] == [0]
    assert "br" not in f.source()
    assert len(list(f.loop(f.integer("n")))) == 1, "the body of any other loop is emitted once"
    assert "br" in f.source()


def test_nested_loops_that_carry_sums(target: Target) -> None:
    """total += a[i, j] through two loops, an empty one, and one that is known to run once."""
    f = Function("total", target, ["rows", "columns", "a", "out"])
    rows, columns = f.integer("rows"), f.integer("columns")
    a, out = f.pointer("a", "float"), f.pointer("out", "float")
    sums = Registers({"all": f.zero("float", 1), "untouched": a.load()})
    for i in f.loop(rows, carry=[sums]):
        for j in f.loop(columns, carry=[sums]):
            sums["all"] = sums["all"] + a.at(i * columns + j).load()
        for _ in f.loop(columns, columns, carry=[sums]):
            sums["all"] = sums["all"] + sums["all"]
        for _ in f.loop(1, carry=[sums]):
            sums["all"] = sums["all"] + a.at(i * columns).load()
    out.store(sums["all"])
    out.at(1).store(sums["untouched"])
    for shape in [(3, 4), (1, 1), (5, 1), (0, 3), (2, 7)]:
        values = np.arange(1, 36, dtype=np.float32)[: max(np.prod(shape), 1)]
        grid = values[: np.prod(shape)].reshape(shape)
        result = np.zeros(2, np.float32)
        call(f, *shape, values, result)
        assert result.tolist() == [grid.sum() + grid[:, 0].sum(), values[0]]


def test_registers_swapped_by_a_loop(target: Target) -> None:
    """Both new values depend on both old ones: Fibonacci."""
    f = Function("fibonacci", target, ["n", "out"])
    out = f.pointer("out", "double")
    pair = Registers({0: out.load(), 1: out.at(1).load()})
    for _ in f.loop(f.integer("n"), carry=[pair]):
        pair[0], pair[1] = pair[1], pair[0] + pair[1]
    out.store(pair[0])
    values = np.array([0.0, 1.0])
    call(f, 30, values)
    assert values[0] == 832040


# -- branches --------------------------------------------------------------------------------------------------


def test_when_and_either(target: Target) -> None:
    f = Function("branches", target, ["n", "out"])
    n, out = f.integer("n"), f.pointer("out", "float")
    one = out.at(9).load()
    with f.when((n > 2) & (n <= 5)):
        out.store(one)
    with f.when((n < 1) | (n >= 6)):
        out.at(1).store(one)
    with f.either(n.equals(3)) as (yes, no):
        with yes:
            out.at(2).store(one)
        with no, f.either(n > 3) as (above, below):
            with above:
                for i in f.loop(2):
                    out.at(3 + i).store(one)
            with below:
                out.at(5).store(one)
    for n_value in range(8):
        found = np.zeros(10, np.float32)
        found[9] = 1
        call(f, n_value, found)
        wanted = [2 < n_value <= 5, n_value < 1 or n_value >= 6, n_value == 3, n_value > 3, n_value > 3, n_value < 3]
        assert found[:6].tolist() == [float(value) for value in wanted], n_value


def test_choices_without_branches(target: Target) -> None:
    f = Function("choose", target, ["n", "a", "b", "out"])
    n, out = f.integer("n"), f.pointer("out", "float")
    picked = (n > 4).pointer(f.pointer("a", "float"), f.pointer("b", "float"))
    out.store(picked.at((n > 4).integer(1, 0)).load())
    a, b, result = np.array([1, 2], np.float32), np.array([3, 4], np.float32), np.zeros(1, np.float32)
    for value, answer in [(5, 2), (4, 3), (-7, 3)]:
        call(f, value, a, b, result)
        assert result[0] == answer


# -- integers --------------------------------------------------------------------------------------------------

OPERATIONS = {
    "add": (lambda a, b: a + b, [(3, 4), (-3, 1), (0, 5), (5, 0)]),
    "radd": (lambda a, b: 7 + a, [(3, 0)]),
    "sub": (lambda a, b: a - b, [(3, 4), (9, 0)]),
    "rsub": (lambda a, b: 7 - a, [(3, 0)]),
    "mul": (lambda a, b: a * b, [(3, -4), (1, 9), (9, 1), (0, 3)]),
    "rmul": (lambda a, b: 7 * a, [(3, 0), (1, 0)]),
    "floordiv": (lambda a, b: a // b, [(17, 5), (4, 5), (9, 1)]),
    "mod": (lambda a, b: a % b, [(17, 5), (4, 5), (10, 5), (9, 1)]),
    "minimum": (lambda a, b: a.minimum(b) if hasattr(a, "minimum") else min(a, b), [(3, 4), (4, -3)]),
    "maximum": (lambda a, b: a.maximum(b) if hasattr(a, "maximum") else max(a, b), [(3, 4), (4, -3)]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_integers_computed_here_and_there_are_the_same(target: Target, name: str) -> None:
    operation, pairs = OPERATIONS[name]
    for a, b in pairs:
        folded = Function("folded", target)
        result = operation(folded.number(a), folded.number(b))
        assert result.known == operation(a, b)
        assert result.text == str(operation(a, b))
        assert folded.source().count("\n") == 4, "known numbers cost no instruction"
        for left, right in [(True, True), (True, False), (False, True)]:
            f = Function("computed", target, ["a", "b", "out"])
            value = operation(f.integer("a") if left else f.number(a), f.integer("b") if right else f.number(b))
            f.pointer("out", "i64").store(scalar(value))
            found = np.zeros(1, np.int64)
            call(f, a, b, found)
            assert found[0] == operation(a, b), (a, b, left, right)


# -- vectors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("element", ["float", "double"])
@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16])
def test_arithmetic_on_vectors_of_any_width(target: Target, element: str, lanes: int) -> None:
    dtype = {"float": np.float32, "double": np.float64}[element]
    f = Function("arithmetic", target, ["a", "b", "out"])
    a, b = (f.pointer(name, element).load(lanes) for name in "ab")
    third = f.pointer("a", element).broadcast(lanes)
    out = f.pointer("out", element)
    for number, value in enumerate(
        [a + b, a - b, a * b, a.raised_to(b), third, a.lane(lanes - 1), f.zero(element, lanes)]
    ):
        out.at(number * lanes).store(value)
    generator = np.random.default_rng(3)
    x, y = (generator.standard_normal(lanes).astype(dtype) for _ in range(2))
    found = np.full((7, lanes), 9, dtype)
    call(f, x, y, found)
    last = np.full(lanes, 9, dtype)
    last[0] = x[-1]
    wanted = [x + y, x - y, x * y, np.maximum(x, y), np.full(lanes, x[0]), last, np.zeros(lanes)]
    np.testing.assert_array_equal(found, np.array(wanted, dtype))


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("element", ["float", "double"])
def test_constants_are_rounded_to_their_type(target: Target, element: str, lanes: int) -> None:
    dtype = {"float": np.float32, "double": np.float64}[element]
    f = Function("constants", target, ["out"])
    values = [0.1, -1 / 3, 0.0, 1e30, float("inf")]
    for number, value in enumerate(values):
        f.pointer("out", element).at(number * lanes).store(f.constant(value, element, lanes))
    found = np.zeros((len(values), lanes), dtype)
    call(f, found)
    np.testing.assert_array_equal(found, np.array(values, dtype)[:, np.newaxis].repeat(lanes, 1))


def test_a_disguised_pointer_is_loaded_from_again(target: Target) -> None:
    f = Function("again", target, ["a"])
    a = f.pointer("a", "float")
    a.at(8).store(a.load(4) + a.disguised().load(4))
    values = np.arange(12, dtype=np.float32)
    call(f, values)
    assert values[8:].tolist() == [0, 2, 4, 6]


def test_raised_to_keeps_nan(target: Target) -> None:
    f = Function("relu", target, ["a"])
    a = f.pointer("a", "float")
    a.store(a.load(4).raised_to(f.zero("float", 4)))
    values = np.array([np.nan, -1, np.inf, -np.inf], np.float32)
    call(f, values)
    np.testing.assert_array_equal(values, np.array([np.nan, 0, np.inf, 0], np.float32))


@pytest.mark.parametrize("lanes", [1, 4, 8])
def test_times_plus_rounds_once_where_there_is_an_fma(target: Target, lanes: int) -> None:
    f = Function("fma", target, ["a", "out"])
    a = f.pointer("a", "float").load(lanes)
    f.pointer("out", "float").store(a.times_plus(a, f.pointer("out", "float").load(lanes)))
    tiny = np.float32(2.0**-12)
    x, found = np.full(lanes, 1 + tiny, np.float32), np.full(lanes, -1 - 2 * tiny, np.float32)
    call(f, x, found)
    # (1 + t)^2 - 1 - 2t is t^2, which the rounding of the product to 24 bits loses.
    assert found.tolist() == [float(tiny) ** 2 if target.has_fma else 0.0] * lanes


@pytest.mark.parametrize("lanes", [2, 4, 8, 16])
@pytest.mark.parametrize("element", ["float", "double"])
def test_transposed(target: Target, lanes: int, element: str) -> None:
    dtype = {"float": np.float32, "double": np.float64}[element]
    f = Function("transpose", target, ["a", "out"])
    a, out = f.pointer("a", element), f.pointer("out", element)
    for number, column in enumerate(transposed([a.at(i * lanes).load(lanes) for i in range(lanes)])):
        out.at(number * lanes).store(column)
    square, found = np.arange(lanes * lanes, dtype=dtype).reshape(lanes, lanes), np.zeros((lanes, lanes), dtype)
    call(f, square, found)
    np.testing.assert_array_equal(found, square.T)


@pytest.mark.parametrize("to", ["float", "double"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("lanes", [1, 4, 8])
def test_conversions_signed_and_unsigned(target: Target, dtype: str, to: str, lanes: int) -> None:
    kind = np.dtype(dtype)
    element = {"f4": "float", "f8": "double"}.get(kind.str[1:], f"i{8 * kind.itemsize}")
    f = Function("convert", target, ["a", "out"])
    value = f.pointer("a", element).load(lanes).converted(to, signed=kind.kind != "u")
    f.pointer("out", to).store(value)
    limits = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    values = np.array([limits.min, limits.max, 0, 1, 100, 3, 77, 2][:lanes], kind)
    wide = {"float": np.float32, "double": np.float64}[to]
    found = np.zeros(lanes, wide)
    call(f, values, found)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found, values.astype(wide))


def test_shuffled(target: Target) -> None:
    f = Function("shuffle", target, ["a", "out"])
    a = f.pointer("a", "float")
    f.pointer("out", "float").store(a.load(4).shuffled(a.at(4).load(4), [7, 0, 0, 5, 2, 6, 1, 3]))
    found = np.zeros(8, np.float32)
    call(f, np.arange(8, dtype=np.float32), found)
    assert found.tolist() == [7, 0, 0, 5, 2, 6, 1, 3]


# -- memory ----------------------------------------------------------------------------------------------------


def test_a_buffer_and_pointers_in_bytes_and_elements(target: Target) -> None:
    """Reverse five numbers through a buffer; the second half through offsets in bytes."""
    f = Function("reverse", target, ["a"])
    a, buffer = f.pointer("a", "double"), f.buffer("double", 5)
    for i in f.loop(5):
        buffer.at(i).store(a.at(i).load())
    for i in f.loop(5):
        a.at_bytes(i * 8).store(buffer.at_bytes((4 - i) * 8).load())
    values = np.arange(5.0)
    call(f, values)
    assert values.tolist() == [4, 3, 2, 1, 0]


def test_two_buffers_do_not_overlap_and_are_aligned(target: Target) -> None:
    f = Function("buffers", target, ["out"])
    out = f.pointer("out", "i64")
    for number, count in enumerate((3, 40, 1)):
        buffer = f.buffer("float", count)
        address = f.emit(f"ptrtoint ptr {buffer.text} to i64")
        out.at(number).store(scalar(Int(f, address)))
    found = np.zeros(3, np.int64)
    call(f, found)
    assert (found % 64 == 0).all()
    order = np.sort(found)
    assert (np.diff(order) >= 64).all()


def test_a_streaming_store_writes(target: Target) -> None:
    f = Function("stream", target, ["a", "out"])
    lanes = target.lanes(4)
    f.pointer("out", "float").store(f.pointer("a", "float").load(lanes), streaming=True)
    room = np.zeros(64, np.float32)
    aligned = room[-room.ctypes.data % 64 // 4 :][:lanes]
    call(f, np.arange(1, lanes + 1, dtype=np.float32), aligned)
    assert aligned.tolist() == list(range(1, lanes + 1))


def test_unaligned_loads_and_stores(target: Target) -> None:
    f = Function("shift", target, ["a", "out"])
    lanes = target.lanes(4)
    f.pointer("out", "float").store(f.pointer("a", "float").load(lanes))
    values, found = np.arange(40, dtype=np.float32), np.zeros(40, np.float32)
    call(f, values[1:], found[3:])
    assert found[3 : 3 + lanes].tolist() == list(range(1, 1 + lanes))
    assert not found[3 + lanes :].any()


def test_functions_that_run_each_other(target: Target) -> None:
    """An internal function with a pointer and a number, called in a loop."""
    inner = Function("inner", target, ["place", "value"], internal=True)
    inner.pointer("place", "i64").store(scalar(inner.integer("value") * 10))
    outer = Function("outer", target, ["out"])
    out = outer.pointer("out", "i64")
    for i in outer.loop(4):
        outer.run(inner, out.at(i), i + 1)
    module = jit.compile_module(module_source([inner, outer]), features=target.features)
    found = np.zeros(5, np.int64)
    ctypes.CFUNCTYPE(None, ctypes.c_int64)(module.address("outer"))(found.ctypes.data)
    assert found.tolist() == [10, 20, 30, 40, 0]


def test_a_carried_register_must_be_named(target: Target) -> None:
    """A loop that changes a register without carrying it does not compile: no silent wrong number."""
    f = Function("forgotten", target, ["n", "out"])
    sums = Registers({0: f.zero("float", 1)})
    for _ in f.loop(f.integer("n")):
        sums[0] = sums[0] + f.pointer("out", "float").load()
    f.pointer("out", "float").store(sums[0])
    with pytest.raises(jit.CompileError, match="dominate"):
        call(f, 3, np.zeros(1, np.float32))


# -- masks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "last"), [(0, 4), (1, 3), (-5, 2), (2, 90), (3, 1), (7, 9), (-9, -3)])
@pytest.mark.parametrize("known", [False, True])
def test_only_the_lanes_of_a_mask_are_read_and_written(target: Target, first: int, last: int, known: bool) -> None:
    """What lies before and behind them is next to forbidden memory."""
    lanes = 4
    f = Function("masked", target, ["first", "last", "there", "a", "out"])
    bounds = (f.number(first), f.number(last)) if known else (f.integer("first"), f.integer("last"))
    mask = f.lanes_between(*bounds, lanes)
    a, out = f.pointer("a", "float"), f.pointer("out", "float")
    nine = f.constant(9.0, "float", lanes)
    loaded = a.load_where(mask, nine)
    out.store(loaded)
    out.at(lanes).store_where(mask, loaded + nine)
    out.at(2 * lanes).store_where(mask.where(f.integer("there").equals(1)), loaded)
    inside = [max(first, 0) <= lane < min(last, lanes) for lane in range(lanes)]
    numbers = np.arange(1, lanes + 1, dtype=np.float32)
    end = max((lane + 1 for lane in range(lanes) if inside[lane]), default=1)
    a_place = guarded(numbers[:end], end=True)
    for there in (0, 1):
        found = np.full(3 * lanes, -1, np.float32)
        call(f, first, last, there, a_place, found)
        wanted = np.where(inside, numbers, 9)
        kept = np.where(inside, wanted + 9, -1)
        last_part = np.where(inside, wanted, -1) if there else np.full(lanes, -1)
        np.testing.assert_array_equal(found, np.concatenate([wanted, kept, last_part]))
