"""Rules for shapes: what they say is what the operators give, or they say nothing."""

import numpy as np
import pytest

from starconv.engine.operations import Info
from starconv.engine.shapes import shape_of
from starconv.nets.graph import Node
from starconv.nets.operators import run_node

POOL = {"kernel_shape": (3, 2), "strides": (2, 1), "pads": (1, 0, 1, 1)}
CASES = [
    ("Add", {}, [(2, 3, 4), (3, 1)]),
    ("Relu", {}, [(2, 3)]),
    ("Softmax", {"axis": 1}, [(2, 3)]),
    ("MaxPool", POOL, [(2, 3, 8, 9)]),
    ("MaxPool", POOL | {"ceil_mode": 1, "dilations": (2, 1)}, [(1, 1, 8, 8)]),
    ("MaxPool", {"kernel_shape": (2,), "auto_pad": "SAME_UPPER", "strides": (2,)}, [(1, 2, 7)]),
    ("AveragePool", POOL | {"count_include_pad": 1}, [(0, 3, 8, 9)]),
    ("GlobalAveragePool", {}, [(2, 3, 4, 5, 6)]),
    ("GlobalMaxPool", {}, [(2, 3, 4)]),
    ("Concat", {"axis": 1}, [(2, 3, 4), (2, 5, 4), (2, 0, 4)]),
    ("Concat", {"axis": -1}, [(2, 3)]),
]


def asked(op, attributes, shapes, dtype="float32", outputs=1):
    arrays = [np.ones(shape, dtype) for shape in shapes]
    names = tuple(f"x{number}" for number in range(len(arrays)))
    node = Node(op, "node", names, tuple(f"y{number}" for number in range(outputs)), attributes)
    return node, arrays, shape_of(node, 21, [Info(array.shape, array.dtype) for array in arrays])


@pytest.mark.parametrize(("op", "attributes", "shapes"), CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_rule_gives_what_the_operator_gives(op, attributes, shapes, dtype):
    node, arrays, found = asked(op, attributes, shapes, dtype)
    (result,) = run_node(node, arrays, 21)
    assert found == Info(result.shape, result.dtype)


@pytest.mark.parametrize(
    ("op", "attributes", "shapes"),
    [
        ("MaxPool", {"kernel_shape": (3,)}, [(1, 1, 8, 8)]),  # one size for two axes
        ("MaxPool", {"kernel_shape": (9, 9)}, [(1, 1, 8, 8)]),  # no window fits
        ("MaxPool", {}, [(1, 1, 8, 8)]),
        ("MaxPool", {"kernel_shape": (2, 2)}, [(8, 8)]),
        ("MaxPool", {"kernel_shape": (2, 2)}, [(1, 1, 8, 8), (1,)]),
        ("GlobalAveragePool", {}, [(2, 3)]),
        ("Concat", {"axis": 1}, [(2, 3), (3, 3)]),
        ("Concat", {"axis": 2}, [(2, 3)]),
        ("Concat", {"axis": 0}, []),
        ("Concat", {}, [(2, 3)]),
        ("Gather", {}, [(2, 3), (1,)]),
    ],
)
def test_what_does_not_fit_is_for_the_operator_to_tell(op, attributes, shapes):
    assert asked(op, attributes, shapes)[2] is None


def test_further_results_are_not_guessed():
    assert asked("MaxPool", POOL, [(2, 3, 8, 9)], outputs=2)[2] is None
