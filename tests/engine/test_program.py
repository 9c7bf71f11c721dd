"""Compiled networks: what they compute is what their nodes compute one by one, wherever their values lie."""

import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest
from graphs import NETWORKS, Writer, interpreted, random_networks
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from starconv import set_num_threads
from starconv.engine import program as programs
from starconv.engine.operations import Convolution, Info
from starconv.engine.placing import Lifetime, placed
from starconv.engine.program import compile_graph
from starconv.errors import ArgumentTypeError, ArgumentValueError
from starconv.nets.graph import Builder
from starconv.nets.operators import NodeError

RNG = np.random.default_rng(0)
LAYOUTS = [None, "first", "last"]


ONE_BY_ONE = 0
"""Bytes that layers may move before pictures go one by one: all layers that can work so do."""


def compiled(graph, arrays, layout=None, together=None, between=None):
    return compile_graph(graph, [array.shape for array in arrays], layout=layout, together=together, between=between)


def check(graph, arrays, results):
    for result, expected in zip(results, interpreted(graph, arrays), strict=True):
        assert result.shape == expected.shape
        assert result.dtype == expected.dtype
        scale = np.abs(expected).max(initial=1)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, layout):
    graph, arrays = NETWORKS[name]()
    program = compiled(graph, arrays, layout)
    check(graph, arrays, program(*arrays))
    again = [array[::-1].copy() for array in arrays]
    check(graph, again, program(*again))


def test_values_times_their_sigmoid_are_one_step():
    graph, arrays = NETWORKS["gated"]()
    steps = [(operation.does, operation.how()) for operation in compiled(graph, arrays).operations]
    does = [step[0] for step in steps]
    assert does == [
        "Conv + BatchNormalization + Sigmoid + Mul",
        "Conv + HardSigmoid + Mul",
        "Conv + BatchNormalization + Add + Sigmoid + Mul",
        "Conv",
        "Swish",
        "Add",
        "HardSigmoid",
        "Mul",
        "Sigmoid",
        "Mul",
        "Conv + HardSwish",
    ]
    assert "python" not in [step[1] for step in steps]


@given(random_networks(), st.sampled_from(LAYOUTS), st.sampled_from([None, ONE_BY_ONE, 1000]), st.booleans())
@examples(3)
def test_random_networks(network, layout, together, by_bands):
    graph, arrays = network
    program = compiled(graph, arrays, layout, together, 1000 if by_bands else None)
    check(graph, arrays, program(*arrays))
    check(graph, arrays, program(*arrays))


@given(random_networks(), st.sampled_from(LAYOUTS), st.sampled_from([None, ONE_BY_ONE, 1000]))
@examples(3)
def test_no_operation_changes_a_value_that_is_needed_later(network, layout, together):
    """Step by step: what was written is still there at its last use, whatever was written in between."""
    graph, arrays = network
    program = compiled(graph, arrays, layout, together)
    context = programs._Context(program)
    context._attach(arrays)
    views = [
        programs._of_picture(step.operation, step.picture, context.arrays, graph.constants) for step in context.steps
    ]
    last_use = {}
    for number, (step, arrays) in enumerate(zip(context.steps, views, strict=True)):
        last_use |= dict.fromkeys(pictures(step, step.operation.reads, arrays), number)
    for name in program.places.outputs:
        last_use |= dict.fromkeys([(name, i) for i in range(len(context.arrays[name]))], len(context.steps))
    written = {}
    for number, (step, arrays) in enumerate(zip(context.steps, views, strict=True)):
        step.operation.run(arrays)
        for key, array in pictures(step, step.operation.writes, arrays).items():
            written[key] = array, array.copy()
        for key, (array, before) in written.items():
            if last_use.get(key, -1) > number:
                np.testing.assert_array_equal(array, before, err_msg=f"{key} after step {number}")


def pictures(step, names, arrays):
    """The pictures of these values that a step works on, by the value's name and the picture's number."""
    if step.picture is not None:
        return {(name, step.picture): arrays[name] for name in names}
    return {(name, i): arrays[name][i : i + 1] for name in names for i in range(len(arrays[name]))}


@given(
    st.lists(
        st.builds(lambda s, f, n: Lifetime(s, f, f + n), st.integers(1, 500), st.integers(0, 9), st.integers(0, 4))
    )
)
def test_places_of_values_that_meet_are_apart(lifetimes):
    offsets, total = placed(lifetimes)
    for i, one in enumerate(lifetimes):
        assert offsets[i] % 64 == 0
        assert 0 <= offsets[i] <= total - one.size
        for j, other in enumerate(lifetimes[:i]):
            if one.meets(other):
                assert offsets[i] >= offsets[j] + other.size or offsets[j] >= offsets[i] + one.size
    most = max(
        (sum(each.size for each in lifetimes if each.first <= step <= each.last) for step in range(14)), default=0
    )
    assert total >= most


@pytest.mark.parametrize("name", NETWORKS)
def test_pictures_one_by_one(name):
    """All together or one by one: the same numbers, in less memory, whatever a network is made of."""
    graph, (x,) = NETWORKS[name]()
    graph = replace(graph, inputs=(replace(graph.inputs[0], shape=None),))
    arrays = [np.concatenate([x, 2 * x[:, :, ::-1], -x])]
    together, one_by_one = (compiled(graph, arrays, "last", most) for most in (1 << 62, ONE_BY_ONE))
    assert not together.chains
    assert one_by_one.chains
    assert one_by_one.bytes < together.bytes
    check(graph, arrays, one_by_one(*arrays))
    again = [array[::-1].copy() for array in arrays]
    check(graph, again, one_by_one(*again))
    timings = [program.profile(*arrays, repeats=1) for program in (together, one_by_one)]
    for one, other in zip(*timings, strict=True):
        assert (one.name, one.multiply_adds) == (other.name, other.multiply_adds)
        assert one.seconds > 0


def test_only_layers_that_move_much_are_done_picture_by_picture():
    w = Writer()
    x = w.conv(w.input(3, 4, 20, 20), 8)
    x = w.conv(w.add("Relu", x), 8)
    y = w.add("MaxPool", x, kernel_shape=(4, 4), strides=(4, 4))
    graph = w.graph(w.conv(w.conv(y, 4), 4))
    program = compiled(graph, w.arrays, together=3 * 4 * 20 * 20 * 4)
    (chain,) = program.lowered.chains
    assert [operation.does for operation in chain.operations] == ["Conv + Relu", "Conv", "MaxPool"]
    assert chain.pictures == 3
    assert len(chain.inner) == 2
    check(graph, w.arrays, program(*w.arrays))
    free = replace(graph, inputs=(replace(graph.inputs[0], shape=None),))
    assert not compiled(free, [w.arrays[0][:1]], together=ONE_BY_ONE).chains


@pytest.mark.parametrize("constant", [(3, 1, 1, 1), (3, 4, 6, 6)])
def test_what_adds_another_number_to_each_picture_is_done_for_all(constant):
    w = Writer()
    x = w.add("Sigmoid", w.add("Mul", w.add("Sigmoid", w.input(3, 4, 6, 6)), w.constant(*constant)))
    graph = w.graph(w.add("Sigmoid", w.add("Concat", x, x, axis=0)))
    program = compiled(graph, w.arrays, together=ONE_BY_ONE)
    assert not program.chains
    check(graph, w.arrays, program(*w.arrays))


@pytest.mark.parametrize("name", NETWORKS)
def test_threads_do_not_change_a_bit(name):
    graph, arrays = NETWORKS[name](size=65) if name == "residual" else NETWORKS[name]()
    results = []
    for count in (1, 2, 5):
        set_num_threads(count)
        results.append(compiled(graph, arrays)(*arrays))
        results.append(compiled(graph, arrays)(*arrays))
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_number_of_threads_may_change_between_calls():
    graph, arrays = NETWORKS["residual"]()
    program = compiled(graph, arrays)
    expected = program(*arrays)[0]
    for count in (1, 3, 2, 1):
        set_num_threads(count)
        np.testing.assert_array_equal(program(*arrays)[0], expected)


def test_calls_from_several_threads_at_a_time():
    graph, arrays = NETWORKS["residual"]()
    program = compiled(graph, arrays)
    inputs = [arrays[0] + number for number in range(6)]
    expected = [program(each)[0] for each in inputs]
    wrong = []

    def work(number):
        for _ in range(20):
            if not np.array_equal(program(inputs[number])[0], expected[number]):
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_results_belong_to_the_caller():
    """New arrays each time: a later call changes nothing of an earlier one's results, nor of the inputs."""
    graph, arrays = NETWORKS["dense"]()
    program = compiled(graph, arrays)
    kept = arrays[0].copy()
    first = program(*arrays)[0]
    copy = first.copy()
    second = program(arrays[0] * 2)[0]
    assert not np.may_share_memory(first, second)
    np.testing.assert_array_equal(first, copy)
    np.testing.assert_array_equal(arrays[0], kept)
    first[...] = 0
    np.testing.assert_array_equal(program(*arrays)[0], copy)


def test_inputs_may_lie_in_memory_in_any_way():
    graph, arrays = NETWORKS["residual"]()
    program = compiled(graph, arrays)
    expected = program(*arrays)[0]
    wide = np.zeros((*arrays[0].shape[:-1], 2 * arrays[0].shape[-1]), np.float32)
    wide[..., ::2] = arrays[0]
    last = np.moveaxis(np.moveaxis(arrays[0], 1, -1).copy(), -1, 1)
    frozen = arrays[0].copy()
    frozen.flags.writeable = False
    for view in (wide[..., ::2], last, frozen, arrays[0][::-1].copy()[::-1]):
        np.testing.assert_array_equal(program(view)[0], expected)


def test_outputs_that_are_inputs_constants_parts_or_twice_the_same():
    w = Writer()
    x = w.input(1, 4, 3, 3)
    a, b = w.conv(x, 2), w.conv(x, 3)
    both = w.add("Concat", a, b, axis=1)
    flat = w.add("Flatten", both)
    same = w.add("Identity", x)
    known = w.add("Mul", w.constant(2), w.constant(2))
    graph = w.graph(both, a, flat, same, known, b)
    program = compiled(graph, w.arrays)
    results = program(*w.arrays)
    check(graph, w.arrays, results)
    for i, one in enumerate(results):
        assert one.flags.writeable
        assert not np.may_share_memory(one, w.arrays[0])
        for other in results[:i]:
            assert not np.may_share_memory(one, other)


def test_what_can_go_together_is_one_operation():
    graph, arrays = NETWORKS["residual"]()
    does = [operation.does for operation in compiled(graph, arrays).operations]
    assert does == [
        "Conv + BatchNormalization + Relu",
        "MaxPool",
        "Conv + BatchNormalization + Relu",
        "Conv + BatchNormalization + Add + Relu",
        "Conv + BatchNormalization + Relu",
        "Conv + BatchNormalization",
        "Conv + BatchNormalization + Add + Relu",
        "GlobalAveragePool",
        "Gemm",
    ]


def test_concatenation_takes_no_step_where_its_parts_are_written_in_place():
    graph, arrays = NETWORKS["u"]()
    assert "Concat" not in [operation.does for operation in compiled(graph, arrays).operations]
    graph, arrays = NETWORKS["dense"]()
    assert "Concat" not in [operation.does for operation in compiled(graph, arrays).operations]


def test_a_value_that_is_used_twice_stays_as_it_is():
    """The sums before the activation are used too, so the activation cannot be taken up."""
    w = Writer()
    y = w.conv(w.input(1, 3, 8, 8), 5)
    graph = w.graph(w.add("Relu", y), w.add("Add", y, w.add("Sigmoid", y)))
    check(graph, w.arrays, compiled(graph, w.arrays)(*w.arrays))


def test_a_residual_that_is_computed_later_than_the_convolution():
    w = Writer()
    x = w.input(1, 4, 9, 9)
    y = w.conv(x, 4)
    late = w.add("Sigmoid", w.add("Sigmoid", x))
    graph = w.graph(w.add("Relu", w.add("Add", y, late)))
    program = compiled(graph, w.arrays)
    assert [operation.does for operation in program.operations][-1] == "Conv + Add + Relu"
    check(graph, w.arrays, program(*w.arrays))


def test_shapes_are_computed_ahead():
    """Shape, Gather, Concat and Reshape, as exporters write a flattening: nothing of it is left."""
    w = Writer()
    x = w.conv(w.input(2, 3, 5, 6), 4)
    batch = w.add("Gather", w.add("Shape", x), w.array([0]), axis=0)
    flat = w.add("Reshape", x, w.add("Concat", batch, w.array([-1]), axis=0))
    graph = w.graph(w.add("MatMul", flat, w.constant(120, 7)))
    program = compiled(graph, w.arrays, "first")
    assert [operation.does for operation in program.operations] == ["Conv", "MatMul"]
    check(graph, w.arrays, program(*w.arrays))


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (1, 7), (2, 1, 2, 7)])
def test_matrices(shape):
    w = Writer()
    x = w.input(*shape)
    y = w.add("Relu", w.add("Add", w.add("MatMul", x, w.constant(7, 6)), w.constant(6)))
    graph = w.graph(w.add("Mul", w.add("MatMul", y, w.constant(6, 5)), w.constant(5)))
    program = compiled(graph, w.arrays)
    assert [operation.does for operation in program.operations] == ["MatMul + Add + Relu", "MatMul + Mul"]
    check(graph, w.arrays, program(*w.arrays))


@pytest.mark.parametrize("attributes", [{"alpha": 0.5, "beta": 2.0}, {"transB": 1}, {"transA": 1}])
def test_gemm(attributes):
    w = Writer()
    x = w.input(*((6, 4) if "transA" in attributes else (4, 6)))
    matrix = w.constant(*((5, 6) if "transB" in attributes else (6, 5)))
    graph = w.graph(w.add("Gemm", x, matrix, w.constant(5), **attributes), w.add("Gemm", x, matrix, **attributes))
    check(graph, w.arrays, compiled(graph, w.arrays)(*w.arrays))


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions_take_up_what_follows(groups):
    w = Writer()
    x = w.input(2, 4, 5, 7)
    y = w.add("ConvTranspose", x, w.constant(4, 3, 3, 3), strides=(2, 2), pads=(1, 1, 1, 1), group=groups)
    graph = w.graph(w.add("Relu", w.norm(y)))
    program = compiled(graph, w.arrays)
    assert [operation.does for operation in program.operations] == ["ConvTranspose + BatchNormalization + Relu"]
    check(graph, w.arrays, program(*w.arrays))


@pytest.mark.parametrize("shape", [(2, 3, 40), (1, 2, 5, 6, 7)])
def test_rows_and_volumes(shape):
    w = Writer()
    x = w.add("Relu", w.norm(w.conv(w.input(*shape), 6)))
    graph = w.graph(w.conv(x, 4, strides=(2,) * (len(shape) - 2)))
    for layout in LAYOUTS:
        check(graph, w.arrays, compiled(graph, w.arrays, layout)(*w.arrays))


def test_wrong_calls():
    graph, arrays = NETWORKS["residual"]()
    program = compiled(graph, arrays)
    with pytest.raises(ArgumentTypeError, match="float32"):
        program(arrays[0].astype(np.float64))
    with pytest.raises(ArgumentValueError, match="shape"):
        program(arrays[0][:1])
    with pytest.raises(ArgumentValueError, match="1 arrays"):
        program()
    with pytest.raises(ArgumentValueError, match="shapes"):
        compile_graph(graph, [])
    with pytest.raises(ArgumentValueError, match="in0"):
        compile_graph(graph, [(2, 3, 33)])
    with pytest.raises(ArgumentValueError, match="in0"):
        compile_graph(graph, [(2, 4, 33, 33)])


def test_profile_tells_of_every_step():
    graph, arrays = NETWORKS["residual"]()
    program = compiled(graph, arrays)
    timings = program.profile(*arrays, repeats=2)
    assert [timing.does for timing in timings] == [operation.does for operation in program.operations]
    assert all(timing.seconds > 0 for timing in timings)
    assert sum(timing.multiply_adds for timing in timings) > 1e6


def test_programs_for_other_sizes_share_their_weights():
    graph, arrays = NETWORKS["mobile"]()
    graph = replace(graph, inputs=(replace(graph.inputs[0], shape=None),))
    one = compile_graph(graph, [(2, 3, 32, 32)], layout="last")
    other = compile_graph(graph, [(1, 3, 40, 36)], layout="last")
    x = np.random.default_rng(0).standard_normal((1, 3, 40, 36)).astype(np.float32)
    check(graph, [x], other(x))
    check(graph, arrays, one(*arrays))
    pairs = [
        (mine.prepared, yours.prepared)
        for mine, yours in zip(one.operations, other.operations, strict=True)
        if isinstance(mine, Convolution) and isinstance(yours, Convolution)
    ]
    assert sum(mine._prepared is yours._prepared for mine, yours in pairs) >= len(pairs) // 2


def test_a_fused_layer_is_not_taken_for_the_plain_one():
    """Two graphs would not share weights, but one layer may be fused or not: its scaled kernels are its own."""
    w = Writer()
    x = w.input(1, 3, 8, 8)
    y = w.conv(x, 4)
    graph = w.graph(w.add("Relu", w.norm(y)))
    both = w.graph(w.add("Relu", w.norm(y)), y)
    for each in (graph, both, graph):
        check(each, w.arrays, compiled(each, w.arrays)(*w.arrays))


def test_values_of_any_size_that_a_file_asks_for_are_refused():
    w = Writer()
    graph = w.graph(w.conv(w.input(1, 3, 8, 8), 50))
    with pytest.raises(NodeError, match="Conv"):
        compile_graph(graph, [(1, 3, 8, 8)], largest=1000)
    assert Info((1, 4, 2**31, 2**31), np.dtype("float32")).size == 2**66  # not 0, as it is modulo 2**64


def test_a_program_holds_none_of_the_callers_arrays():
    graph, arrays = NETWORKS["u"]()
    program = compiled(graph, arrays)
    given = arrays[0].copy()
    result = program(given)[0]
    kept = weakref.ref(given), weakref.ref(result)
    del given, result
    assert [each() for each in kept] == [None, None]


@pytest.mark.parametrize("together", [None, ONE_BY_ONE])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_where_no_code_can_be_compiled(name, together, monkeypatch):
    for module in ("emit.target", "elementwise", "pooling", "program"):
        monkeypatch.setattr(f"starconv.engine.{module}.host_target", lambda: None)
    graph, arrays = NETWORKS[name](seed=1)
    program = compiled(graph, arrays, together=together)
    check(graph, arrays, program(*arrays))
    assert {timing.by for timing in program.profile(*arrays, repeats=1)} == {"python"}


def test_what_a_chain_reads_through_a_view_is_there_until_its_last_picture():
    """The memory of the value whose view it is has another shape."""
    w = Writer()
    x = w.conv(w.input(1, 6, 12, 12), 12)
    x = w.add("Reshape", x, w.array([3, 4, 12, 12]))
    for kernels in (4, 12, 12, 4):
        x = w.conv(x, kernels)
    graph = w.graph(x)
    program = compiled(graph, w.arrays, "first", ONE_BY_ONE)
    assert program.chains
    check(graph, w.arrays, program(*w.arrays))


def test_a_constant_with_several_pictures_is_not_concatenated_picture_by_picture():
    w = Writer()
    x = w.add("Concat", w.conv(w.input(3, 4, 6, 6), 4), w.constant(3, 2, 6, 6), axis=1)
    graph = w.graph(w.conv(x, 4))
    check(graph, w.arrays, compiled(graph, w.arrays, together=ONE_BY_ONE)(*w.arrays))


def test_layers_whose_sums_have_other_types_prepare_their_weights_in_one_room():
    builder = Builder("mixed")
    x = builder.input("x", np.float32, (1, 10, 4, 4))
    for number, (kernels, channels, dtype) in enumerate([(10, 10, "f4"), (9, 10, "f8"), (3, 9, "f4")]):
        weights = RNG.standard_normal((kernels, channels, 1, 1)).astype(dtype)
        factors = RNG.standard_normal((1, kernels, 1, 1)).astype(dtype)
        x = builder.add("Cast", x, to={"f4": 1, "f8": 11}[dtype])
        x = builder.add("Conv", x, builder.constant(f"weights{number}", weights))
        x = builder.add("Mul", x, builder.constant(f"factors{number}", factors))
    graph, arrays = builder.graph(x), [RNG.standard_normal((1, 10, 4, 4)).astype("f4")]
    check(graph, arrays, compiled(graph, arrays)(*arrays))
