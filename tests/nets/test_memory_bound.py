"""Small files that ask for much: what all values of a network may take at the same time."""

import copy
import os
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from graphs import NETWORKS
from onnx import TensorProto, helper, numpy_helper

from starconv import ArgumentTypeError, ArgumentValueError, nets
from starconv.engine.program import compile_graph
from starconv.nets import Builder, Network, NodeError
from starconv.nets.operators import LARGEST, most_memory

MEMORY = 2**24
"""Bytes that the networks here may take; each of their values takes 1 MiB."""
SLACK = 2**20
"""Bytes of lists, names and errors."""


def waiting(count, *, results):
    """`count` values of the input's size that wait for each other, or that are the results."""
    builder = Builder("waiting")
    x = builder.input("x", np.float32, (1, 1, None, None))
    values = [builder.add("Exp", x, name=f"exp{number}") for number in range(count)]
    if results:
        return builder.graph(*values)
    total = values[0]
    for value in values[1:]:
        total = builder.add("Add", total, value)
    return builder.graph(total)


def peak_of(call):
    """Bytes of arrays at the worst time of `call`."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("results", [False, True])
def test_many_values_at_once(results):
    x = np.ones((1, 1, 512, 512), "float32")
    network = Network(waiting(40, results=results), memory=MEMORY)
    ways = {
        "call": lambda: network(x),
        "interpreted": lambda: network.interpreted(x),
        "profile": lambda: network.profile(x),
        "summary": lambda: network.summary(x.shape),
    }
    if not results:
        last = network.outputs[0].name
        ways["run"] = lambda: network.run(x, upto=last)
        ways["feature_maps"] = lambda: network.feature_maps(x, last)
        ways["receptive_field"] = lambda: network.receptive_field(last, x.shape)

    def refused(way):
        # 16 MiB are the input and 15 results of 1 MiB.
        with pytest.raises(NodeError, match=r"Exp 'exp15'.*1,048,576 bytes, more than the 0 .*argument memory"):
            way()

    for name, way in ways.items():
        # What compiling asks for, and nobody writes to, is not counted by the system, but by tracemalloc.
        peak = peak_of(lambda way=way: refused(way))
        assert name in ("call", "profile") or peak < MEMORY + 2**20 + SLACK
    with pytest.raises(ArgumentValueError, match=r"memory = 16777216: expected at least 4\d,\d{3},\d{3} bytes"):
        network.program(x.shape)
    roomy = Network(network.graph, memory=4 * MEMORY)
    assert roomy._compiled((x.shape,)) is not None
    np.testing.assert_allclose(roomy(x), roomy.interpreted(x), rtol=1e-6)


def test_values_are_let_go_after_their_last_use():
    builder = Builder("row")
    x = builder.input("x", np.float32, (1, 1, None, None))
    for _ in range(40):
        x = builder.add("Sigmoid", x)
    x = Network(builder.graph(x), memory=3 * 2**20)  # the input, and each value beside the one before it
    ones = np.ones((1, 1, 512, 512), "float32")
    assert x.interpreted(ones).shape == ones.shape
    assert x(ones).shape == ones.shape
    with pytest.raises(NodeError, match="sigmoid_1'"):
        Network(x.graph, memory=3 * 2**20 - 1).interpreted(ones)


def test_a_file_of_a_kilobyte(tmp_path):
    """Forty results out of nothing, each within what one value may take."""
    names = [f"r{number}" for number in range(40)]
    graph = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["size"], [name]) for name in names],
        "much",
        [],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in names],
        [numpy_helper.from_array(np.array([2**18]), "size")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=8)
    (tmp_path / "much.onnx").write_bytes(model.SerializeToString())
    assert (tmp_path / "much.onnx").stat().st_size < 2000
    network = nets.load(tmp_path / "much.onnx", memory=MEMORY)

    def refused():
        with pytest.raises(NodeError, match=r"ConstantOfShape.*1,048,576 bytes, more than the 0 that are left"):
            network()

    assert peak_of(refused) < MEMORY + SLACK
    assert len(nets.load(tmp_path / "much.onnx", memory=4 * MEMORY)()) == 40


def test_what_is_computed_when_compiling_is_bounded_by_the_weights():
    """Constants of 2 GiB out of nothing: the compiler leaves them to the interpreter, which lets them go."""
    builder = Builder("grown")
    size = builder.constant("size", np.array([2**27]))
    zero = builder.constant("zero", np.array(0))
    values = [builder.add("Gather", builder.add("ConstantOfShape", size, name=f"c{n}"), zero) for n in range(3)]
    with pytest.raises(NodeError, match=r"ConstantOfShape 'c0'.*536,870,912 bytes, more than the 268,435,5"):
        compile_graph(builder.graph(*values), [])


@pytest.mark.parametrize("constant", [False, True])
def test_one_value_as_many_results(constant):
    builder = Builder("again")
    x = builder.input("x", np.float32, (1, 1, 512, 512))
    y = builder.constant("w", np.ones((1, 1, 512, 512), "float32")) if constant else builder.add("Exp", x)
    network = Network(builder.graph(*[y] * 40), memory=MEMORY)
    ones = np.ones((1, 1, 512, 512), "float32")
    with pytest.raises(ArgumentValueError, match="at least"):
        network.program(ones.shape)

    def call():
        if constant:
            with pytest.raises(ArgumentValueError, match="outputs = 40: expected results that take at most 16,777,216"):
                network(ones)
        else:  # the interpreter gives the same array forty times
            network(ones)

    assert peak_of(call) < MEMORY + SLACK


def test_inputs_count():
    builder = Builder("inputs")
    names = [builder.input(f"x{number}", np.float32, (1, 1, None, None)) for number in range(20)]
    network = Network(builder.graph(builder.add("Max", *names)), memory=MEMORY)
    shapes = [(1, 1, 512, 512)] * 20
    with pytest.raises(ArgumentValueError, match=r"at most 0 bytes, which is what other inputs leave of 16,777,216"):
        network.summary(*shapes)
    with pytest.raises(NodeError, match="Max"):
        network(*[np.ones(shape, "float32") for shape in shapes])


@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_program_says_that_it_needs_is_what_a_call_takes(name):
    graph, arrays = NETWORKS[name]()
    shapes = [array.shape for array in arrays]
    program = compile_graph(graph, shapes)
    needed = program.places.call_bytes + program.ready().extra_bytes
    assert compile_graph(graph, shapes, memory=needed) is not None
    with pytest.raises(ArgumentValueError, match=f"expected at least {needed:,} bytes"):
        compile_graph(graph, shapes, memory=needed - 1)
    first = compile_graph(graph, shapes)
    assert peak_of(lambda: first(*arrays)) < needed + SLACK


def test_all_programs_together_keep_what_one_may_take():
    builder = Builder("pair")
    x = builder.input("x", np.float32, (1, 1, None, None))
    x = builder.add("Exp", builder.add("Sigmoid", builder.add("Exp", x)))
    network = Network(builder.graph(x), memory=MEMORY)
    for side in range(1000, 1005):  # blocks of 4 MB and more
        network(np.ones((1, 1, side, side), "float32"))
    kept = [program.bytes for program in network._programs.values()]
    assert 1 < len(kept) < 5
    assert sum(kept) <= MEMORY


def test_the_limit_by_default(monkeypatch):
    graph = waiting(2, results=True)
    network = Network(graph)
    assert network.memory == most_memory() <= 4 * LARGEST
    monkeypatch.setattr("starconv.nets.operators.usable_memory", lambda: 2**30)
    most_memory.cache_clear()
    try:
        assert most_memory() == 2**29
        monkeypatch.setattr("starconv.nets.operators.usable_memory", lambda: None)
        most_memory.cache_clear()
        assert (most_memory(), most_memory(1000), most_memory(2 * LARGEST)) == (2**33, 2**33, 2**34)
        assert pickle.loads(pickle.dumps(Network(graph))).memory == 2**33
    finally:
        most_memory.cache_clear()
    assert copy.copy(Network(graph, memory=7)).memory == 7
    for wrong in (0, -1, True, 1.0, "1"):
        with pytest.raises(ArgumentTypeError, match=r"memory = .*: expected an integer >= 1, in bytes"):
            Network(graph, memory=wrong)


REFUSED_CALL = """
import re, sys
import numpy as np
from test_memory_bound import waiting
from starconv.nets import Network, NodeError

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])

graph = waiting(40, results=sys.argv[1] == "results")
Network(graph)(np.ones((1, 1, 8, 8), "float32"))  # kernels are compiled
before = peak()
try:
    Network(graph, memory=2**28)(np.ones((1, 1, 2**11, 2**11), "float32"))  # 16 MiB each
except NodeError:
    print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from what Linux says of a process")
@pytest.mark.parametrize("kind", ["results", "inside"])
def test_pages_of_a_refused_call(kind):
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", REFUSED_CALL, kind],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert 2**27 < int(done.stdout) < 2**28 + 2**24 + 2**23
