"""Every operator against others' meaning of it: ONNX's own test cases, and the onnx package's evaluator."""

import importlib
import pkgutil
import warnings
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx_models import node_of, one_node, plain, reference
from strategies import examples, seeds

from starconv.nets import Node, NodeError
from starconv.nets.operators import DTYPES, SUPPORTED, run_node

SLOW = {"maxpool", "averagepool", "lppool"}
"""Modules whose test cases take seconds to make; these operators have tests of their own below."""


def agree(found, expected, rtol=1e-4, atol=1e-5):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        theirs = np.asarray(theirs)
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        if ours.dtype == np.float16:
            rtol, atol = 5e-3, 5e-3
        np.testing.assert_allclose(ours.astype(float), theirs.astype(float), rtol=rtol, atol=atol)


def check(op, inputs, outputs=1, opset=21, **attributes):
    """Run a node here and by the onnx package."""
    model = one_node(op, inputs, outputs, opset, **attributes)
    found = run_node(node_of(model), list(inputs.values()), opset)
    agree(found, reference(model, inputs))
    return found


def numbers(seed, shape, dtype="float32"):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(-9 if np.dtype(dtype).kind == "i" else 0, 10, shape).astype(dtype)


# ONNX's own test cases


def test_onnx_s_own_test_cases_of_one_node_agree():
    import onnx.backend.test.case.node as cases

    wanted = {op.lower() for op in SUPPORTED} - SLOW
    state = np.random.get_state()  # the cases seed the global generator  # noqa: NPY002
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in pkgutil.iter_modules(cases.__path__):
            if module.name.replace("_", "") in wanted:
                importlib.import_module(f"{cases.__name__}.{module.name}")
    np.random.set_state(state)  # noqa: NPY002
    ran, seen = 0, set()
    for case in cases._NodeTestCases:
        nodes = case.model.graph.node
        opset = {entry.domain: entry.version for entry in case.model.opset_import}.get("", 0)
        if len(nodes) != 1 or nodes[0].op_type not in SUPPORTED or opset < 7:
            continue
        if any(word in case.name for word in NOT_THESE):
            continue
        for inputs, expected in case.data_sets:
            arrays = iter(inputs)
            given = [next(arrays) if name else None for name in nodes[0].input]
            if not all(isinstance(a, np.ndarray | np.generic) and a.dtype in TYPES for a in [*inputs, *expected]):
                continue  # bfloat16, strings, sequences
            try:
                agree(
                    run_node(node_of(case.model), [None if a is None else np.asarray(a) for a in given], opset),
                    expected,
                )
            except Exception as error:
                error.add_note(case.name)
                raise
            ran += 1
            seen.add(nodes[0].op_type)
    assert ran > 400
    assert len(seen) > 105


TYPES = set(DTYPES.values())
NOT_THESE = (
    "training",
    "einsum_batch_diagonal",
    "maxunpool_export_with_output_shape",
    "to_BFLOAT",
    "to_FLOAT8",
    "INT4",
)
"""Training is refused, so are dots in einsum; an unpool of another size has two readings; types that NumPy has not."""


# Windows


@st.composite
def windows(draw, ceil=False):
    spatial = draw(st.integers(1, 3))
    sizes = draw(st.lists(st.integers(1, 9 if spatial < 3 else 5), min_size=spatial, max_size=spatial))
    kernel = [draw(st.integers(1, 4)) for _ in sizes]
    strides = [draw(st.integers(1, 3)) for _ in sizes]
    dilations = [draw(st.sampled_from([1, 1, 2])) for _ in sizes]
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    attributes = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    pads = [0] * (2 * spatial)
    if auto == "NOTSET":
        pads = [draw(st.integers(0, (k - 1))) for k in kernel * 2]
        attributes["pads"] = pads
    else:
        attributes["auto_pad"] = auto
    padded = [n + a + b for n, a, b in zip(sizes, pads[:spatial], pads[spatial:], strict=True)]
    assume(auto.startswith("SAME") or all(e <= p for e, p in zip(extents, padded, strict=True)))
    if ceil and auto == "NOTSET":
        attributes["ceil_mode"] = draw(st.integers(0, 1))
    return sizes, attributes


@examples(2)
@given(windows(), st.integers(1, 3), st.integers(1, 2), st.booleans(), seeds)
def test_convolutions(window, group, per_group, bias, seed):
    sizes, attributes = window
    x = numbers(seed, (2, group * per_group, *sizes))
    w = numbers(seed + 1, (2 * group, per_group, *attributes["kernel_shape"]))
    check("Conv", {"x": x, "w": w, "b": numbers(seed, 2 * group) if bias else None}, group=group, **attributes)


@examples(2)
@given(windows(), st.integers(1, 2), st.booleans(), st.data())
def test_transposed_convolutions_are_the_adjoints_of_convolutions(window, group, bias, data):
    """<conv(x), y> = <x, transposed(y)>, whatever the padding: the meaning that needs no other implementation."""
    sizes, attributes = window
    seed = data.draw(seeds)
    x = numbers(seed, (1, 2 * group, *sizes), "float64")
    w = numbers(seed + 1, (2 * group, 2, *attributes["kernel_shape"]), "float64")
    attributes = {name: tuple(value) if isinstance(value, list) else value for name, value in attributes.items()}
    (o,) = run_node(Node("Conv", "n", ("x", "w"), ("o",), {**attributes, "group": group}), [x, w], 21)
    y = numbers(seed + 2, o.shape, "float64")
    spatial = len(sizes)
    if attributes.get("auto_pad", "NOTSET").startswith("SAME"):
        return
    pads = attributes.get("pads", (0,) * 2 * spatial)
    extra = tuple(
        n + a + b - (d * (k - 1) + 1) - (m - 1) * s
        for n, m, k, s, d, a, b in zip(
            sizes, o.shape[2:], attributes["kernel_shape"], attributes["strides"], attributes["dilations"],
            pads[:spatial], pads[spatial:], strict=True,
        )
    )  # fmt: skip
    b = numbers(seed, 2 * group, "float64") if bias else None
    node = Node("ConvTranspose", "n", ("y", "w", "b"), ("x",), {**attributes, "group": group, "output_padding": extra})
    (back,) = run_node(node, [y, w, b], 21)
    assert back.shape == x.shape
    if b is not None:
        back = back - b.reshape(1, -1, *[1] * spatial)
    np.testing.assert_allclose((o * y).sum(), (x * back).sum(), rtol=1e-9, atol=1e-9)


@examples(2)
@given(windows(ceil=True), st.sampled_from(["MaxPool", "AveragePool", "LpPool"]), st.integers(0, 1), seeds)
def test_pools(window, op, include, seed):
    sizes, attributes = window
    spatial, x = len(sizes), numbers(seed, (1, 2, *sizes))
    attributes = {name: tuple(value) if isinstance(value, list) else value for name, value in attributes.items()}
    kernel, strides, dilations = (attributes[name] for name in ("kernel_shape", "strides", "dilations"))
    auto, ceil = attributes.get("auto_pad", "NOTSET"), attributes.get("ceil_mode", 0)
    pads = attributes.get("pads", (0,) * 2 * spatial)
    axes = []  # per axis: for each window what it reads, and whether that counts as padding
    for n, k, s, d, before, after in zip(
        sizes, kernel, strides, dilations, pads[:spatial], pads[spatial:], strict=True
    ):
        extent = d * (k - 1) + 1
        count = (n + before + after - extent) // s + 1
        if auto.startswith("SAME"):
            count = -(-n // s)
            total = max((count - 1) * s + extent - n, 0)
            before = total // 2 + (total % 2 if auto == "SAME_LOWER" else 0)
            after = total - before
        elif ceil and (n + before + after - extent) % s and count * s < n + before:
            count += 1  # torch's rule and onnxruntime's: not if it would begin behind the input
        axes.append([[o * s - before + t * d for t in range(k)] for o in range(count)])
        sizes_with_pads = (-before, n + after)
        axes[-1] = [[(i, sizes_with_pads[0] <= i < sizes_with_pads[1]) for i in reads] for reads in axes[-1]]
    expected = np.zeros((1, 2, *(len(axis) for axis in axes)))
    for place in np.ndindex(*expected.shape[2:]):
        met = list(product(*(axis[o] for axis, o in zip(axes, place, strict=True))))
        inside = [
            x[(0, slice(None), *(i for i, _ in tap))]
            for tap in met
            if all(0 <= i < n for (i, _), n in zip(tap, sizes, strict=True))
        ]
        padded = sum(all(counts for _, counts in tap) for tap in met)
        values = np.array(inside or [[-np.inf if op == "MaxPool" else 0] * 2])
        count = max(padded if include else len(inside), 1)
        results = {
            "MaxPool": values.max(0),
            "AveragePool": values.sum(0) / count,
            "LpPool": np.sqrt((values**2).sum(0)),
        }
        expected[(0, slice(None), *place)] = results[op]
    node = Node(op, "p", ("x",), ("y",), attributes | ({"count_include_pad": include} if op == "AveragePool" else {}))
    agree(run_node(node, [x], 22), [expected.astype("f")])


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad", "windows"),
    [
        (5, 2, 2, 0, [(0, 2), (2, 4), (4, 6)]),
        (6, 3, 2, 1, [(-1, 2), (1, 4), (3, 6), (5, 8)]),
        (2, 2, 3, 1, [(-1, 1), (2, 4)][:1]),  # the second window would begin in the padding
        (3, 3, 3, 1, [(-1, 2), (2, 5)]),
    ],
)
def test_ceil_mode_adds_a_last_window_if_it_begins_inside(size, kernel, stride, pad, windows, include):
    x = np.arange(1.0, size + 1, dtype="float32").reshape(1, 1, size)
    attributes = {"kernel_shape": (kernel,), "strides": (stride,), "pads": (pad, pad), "ceil_mode": 1}
    (largest,) = run_node(Node("MaxPool", "p", ("x",), ("y",), attributes), [x], 21)
    cut = [x[0, 0, max(a, 0) : b] for a, b in windows]
    np.testing.assert_array_equal(largest[0, 0], [part.max() for part in cut])
    node = Node("AveragePool", "p", ("x",), ("y",), {**attributes, "count_include_pad": include})
    counts = [min(b, size + pad) - a if include else len(part) for (a, b), part in zip(windows, cut, strict=True)]
    expected = [part.sum() / count for part, count in zip(cut, counts, strict=True)]
    np.testing.assert_allclose(run_node(node, [x], 21)[0][0, 0], expected, rtol=1e-6)


@given(windows(), st.integers(0, 1), seeds)
def test_where_the_maxima_are(window, order, seed):
    sizes, attributes = window
    x = numbers(seed, (2, 2, *sizes))
    attributes = {name: tuple(value) if isinstance(value, list) else value for name, value in attributes.items()}
    node = Node("MaxPool", "p", ("x",), ("y", "i"), {**attributes, "storage_order": order})
    largest, places = run_node(node, [x], 21)
    # Row after row, or column after column for storage_order 1, of each plane.
    planes = x.reshape(2, 2, -1) if not order else x.transpose(0, 1, *reversed(range(2, x.ndim))).reshape(2, 2, -1)
    np.testing.assert_array_equal(planes.reshape(-1)[places], largest)


# Pictures in other sizes


@given(
    st.sampled_from(["nearest", "linear", "cubic"]),
    st.sampled_from(["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]),
    st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    st.booleans(),
    st.data(),
)
def test_resize(mode, coordinates, nearest, by_sizes, data):
    sizes = [data.draw(st.integers(2, 6)) for _ in range(2)]
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
    if mode == "cubic":
        attributes |= {"exclude_outside": data.draw(st.integers(0, 1)), "cubic_coeff_a": -0.5}
    x = numbers(data.draw(seeds), (1, 2, *sizes))
    if by_sizes:
        wanted = np.array([1, 2, *(data.draw(st.integers(1, 11)) for _ in sizes)], np.int64)
        check("Resize", {"x": x, "roi": None, "scales": None, "sizes": wanted}, opset=19, **attributes)
    else:
        scales = [data.draw(st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0])) for _ in sizes]
        # The evaluator of onnx takes a size of 1.5 for another than 1, which ONNX's formula asks for.
        whole = all(n * s % 1 == 0 for n, s in zip(sizes, scales, strict=True))
        assume(whole or coordinates != "pytorch_half_pixel")
        check("Resize", {"x": x, "roi": None, "scales": np.array([1, 1, *scales], np.float32)}, opset=19, **attributes)


def test_upsample_and_the_first_resize():
    x = np.arange(4.0, dtype="float32").reshape(1, 1, 2, 2)
    twice = x.repeat(2, 2).repeat(2, 3)
    scales = np.array([1, 1, 2, 2], np.float32)
    for op, opset, inputs, attributes in (
        ("Upsample", 7, [x], {"scales": (1.0, 1.0, 2.0, 2.0)}),
        ("Upsample", 9, [x, scales], {}),
        ("Resize", 10, [x, scales], {}),
    ):
        (y,) = run_node(Node(op, "n", ("x",), ("y",), attributes), inputs, opset)
        np.testing.assert_array_equal(y, twice)


# What older versions of operators mean


X = numbers(0, (2, 3, 4, 5))


def padded():
    return np.pad(X, [(0, 0), (0, 0), (1, 0), (0, 0)], constant_values=2)[..., :-1]


@pytest.mark.parametrize(
    ("op", "opset", "inputs", "attributes", "expected"),
    [
        ("Softmax", 12, [X], {"axis": 2}, lambda: (e := np.exp(X.reshape(6, 20))) / e.sum(1, keepdims=True)),
        ("LogSoftmax", 11, [X], {}, lambda: (f := X.reshape(2, 60)) - np.log(np.exp(f).sum(1, keepdims=True))),
        ("Hardmax", 11, [X], {}, lambda: (X.reshape(2, 60) == X.reshape(2, 60).max(1, keepdims=True)) * 1.0),
        ("Softmax", 13, [X], {}, lambda: (e := np.exp(X)) / e.sum(-1, keepdims=True)),
        ("Squeeze", 11, [X[:1]], {"axes": (0,)}, lambda: X[0]),
        ("Unsqueeze", 11, [X], {"axes": (0, 5)}, lambda: X[None, ..., None]),
        ("Pad", 7, [X], {"pads": (0, 0, 1, 0, 0, 0, 0, -1), "value": 2.0}, lambda: padded()),
        ("Slice", 9, [X], {"starts": (1, -2), "ends": (9, 9), "axes": (1, 3)}, lambda: X[:, 1:, :, -2:]),
        ("Clip", 7, [X], {"min": -0.5, "max": 0.5}, lambda: X.clip(-0.5, 0.5)),
        ("Clip", 6 + 1, [X], {"max": 0.5}, lambda: np.minimum(X, 0.5)),
        ("ReduceSum", 11, [X], {"axes": (1, -1), "keepdims": 0}, lambda: X.sum((1, 3))),
        ("ReduceMean", 7, [X], {}, lambda: X.mean(keepdims=True)),
        ("Dropout", 7, [X], {"ratio": 0.9}, lambda: X),
        ("Split", 11, [X], {"axis": 3, "split": (5,)}, lambda: X),
        ("Flatten", 7, [X], {"axis": 0}, lambda: X.reshape(1, -1)),
        ("BatchNormalization", 7, [X, *np.ones((4, 3), "f")], {"epsilon": 0.0}, lambda: X - 1 + 1),
    ],
)  # fmt: skip
def test_older_versions_of_operators(op, opset, inputs, attributes, expected):
    (y,) = run_node(Node(op, "n", ("x",) * len(inputs), ("y",), attributes), inputs, opset)
    theirs = expected()
    np.testing.assert_allclose(y.reshape(theirs.shape), theirs, rtol=1e-5, atol=1e-5)


def test_top_k_by_its_attribute():
    values, places = run_node(Node("TopK", "n", ("x",), ("v", "i"), {"k": 2}), [np.array([1.0, 3, 2, 3])], 9)
    np.testing.assert_array_equal(values, [3, 3])
    np.testing.assert_array_equal(places, [1, 3])


def test_integers_divide_as_in_c():
    a, b = np.array([7, -7, 7, -7, 5]), np.array([2, 2, -2, -2, 0])
    for dtype in ("int32", "int64", "int8"):
        (y,) = run_node(Node("Div", "n", ("a", "b"), ("y",)), [a.astype(dtype), b.astype(dtype)], 21)
        np.testing.assert_array_equal(y[:4], [3, -3, -3, 3])
        assert y.dtype == dtype


FLOATS = (
    "Relu Sigmoid Tanh Softplus Softsign Mish HardSwish Exp Sqrt Reciprocal Erf LeakyRelu Elu Celu Selu "
    "ThresholdedRelu HardSigmoid Shrink Gelu Softmax LogSoftmax ReduceMean ReduceL2 ReduceLogSumExp GlobalAveragePool "
    "GlobalLpPool MeanVarianceNormalization LpNormalization LRN Identity Neg Abs"
)


@pytest.mark.parametrize("op", FLOATS.split())
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_keep_their_type_and_nothing_warns(op, dtype):
    x = np.concatenate([numbers(0, 60, dtype), np.array([0, -0.0, 80, -80, np.inf, -np.inf, np.nan, 1e-7], dtype)])
    (y,) = run_node(Node(op, "n", ("x",), ("y",), {"size": 3} if op == "LRN" else {}), [x.reshape(1, 4, 17, 1)], 18)
    assert y.dtype == dtype


# Refusals


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "message"),
    [
        (
            "Conv",
            [X, X[:, :2]],
            {},
            r"Conv 'n' with inputs float32 \(2, 3, 4, 5\), float32 \(2, 2, 4, 5\): .*C / groups",
        ),
        ("Conv", [X, X.astype("f8")], {}, "same type"),
        ("Conv", [X, X], {"kernel_shape": (9, 9)}, "kernel_shape"),
        ("Conv", [X, X], {"pads": (2**30,) * 4}, "bytes, more than"),
        ("Conv", [X, X], {"pads": (1, 1)}, "should be 4 integers"),
        ("Conv", [X, X], {"strides": "two"}, "list of integers"),
        ("Conv", [X], {}, "at least 2 inputs"),
        ("MaxPool", [X], {}, "kernel_shape"),
        ("MaxPool", [X], {"kernel_shape": (2**62, 1)}, "kernel_size|bytes|taps"),
        ("Relu", [X > 0], {}, "bool is not a type"),
        ("Add", [X, X.astype("f8")], {}, "same type"),
        ("Add", [X, X[:, :2]], {}, "broadcast"),
        (
            "Add",
            [np.broadcast_to(X[:1, :1], (1, 2**20, 4, 5)), np.zeros((2**12, 1, 1, 1), "f")],
            {},
            "bytes, more than",
        ),
        ("Expand", [X, np.array([2**40, 1, 1, 1, 1])], {}, "bytes, more than"),
        ("Tile", [X, np.array([1, 1, 2**40, 1])], {}, "bytes, more than"),
        ("ConstantOfShape", [np.array([2**31, 2**31])], {}, "bytes, more than"),
        ("Range", [np.array(0), np.array(2**62), np.array(1)], {}, "bytes, more than"),
        ("Range", [np.array(0.0), np.array(np.inf), np.array(1.0)], {}, "infinity"),
        ("Reshape", [X, np.array([7, -1])], {}, "cannot reshape"),
        ("Reshape", [X, np.array([[-1], [-1]])], {}, "list"),
        ("Gather", [X, np.array([3])], {"axis": 1}, "from -3 to 2"),
        ("Transpose", [X], {"perm": (0, 1, 1, 2)}, "perm"),
        ("Resize", [X, None, np.array([1, 1, 1e-9, 1], "f")], {"mode": "linear", "antialias": 1}, "scale"),
        ("Cast", [X], {"to": 16}, "type 16 is not supported"),
        ("Nonsense", [X], {}, "no such operator"),
        ("BatchNormalization", [X, *np.ones((4, 3), "f")], {"training_mode": 1}, "only inference"),
        ("Einsum", [X], {"equation": "__import__"}, "equation"),
    ],
)
def test_what_cannot_be_says_which_layer_and_why(op, inputs, attributes, message):
    node = Node(op, "n", ("x",) * len(inputs), ("y",), attributes)
    with pytest.raises(NodeError, match=message):
        run_node(node, inputs, 18)


def test_constants_have_their_attribute_s_type():
    for attributes, expected in (
        ({"value_float": 1.5}, np.float32(1.5)),
        ({"value_ints": (1, 2)}, np.array([1, 2])),
        ({"value": np.ones((2, 2), "f2")}, np.ones((2, 2), "f2")),
    ):
        (found,) = run_node(Node("Constant", "n", (), ("y",), attributes), [], 13)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
    assert plain(b"text") == "text"


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("kernel", [(4_000_001,), (601, 601)])
def test_a_kernel_that_would_meet_padding_only_is_refused(op, kernel):
    """It has a few bytes, and would take minutes."""
    node = Node(op, "pool", ("x",), ("y",), {"kernel_shape": kernel, "pads": tuple(size // 2 for size in kernel) * 2})
    with pytest.raises(NodeError, match="taps more than its input has places"):
        run_node(node, [np.ones((1, 1, *[4] * len(kernel)), np.float32)], 13)
