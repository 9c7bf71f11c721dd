"""ONNX files to graphs and back. Files are data: nothing in them is run, and none may ask for more than it holds.

The package ``onnx`` reads the protocol buffers and checks operators against their schemas. Weights are taken out before
the checker, which works on a copy, sees the model.
"""

import hashlib
import itertools
import math
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import Array
from ..data.files import FileContentError, optional_import, replaced_when_complete
from ..engine.runtime import cache, memory
from ..errors import ArgumentTypeError, ArgumentValueError, StarconvError
from .graph import Attribute, Graph, Node, Value
from .interpret import refuse_unsupported
from .layer_names import layer_names
from .network import Network
from .operators import DTYPES, LARGEST
from .outline import BUFFER, SMALL, outline

__all__ = ["load", "read_graph", "save"]

OLDEST = 7
"""The first version of ONNX's operators with today's broadcasting."""
_LARGEST_FILE = 2**31 - 1
"""Bytes that a protocol buffer can have; larger networks keep their weights in files beside it."""
_FIELDS = {
    "float32": "float_data",
    "float64": "double_data",
    "int64": "int64_data",
    "uint64": "uint64_data",
    "uint32": "uint64_data",
}
"""Where a tensor keeps numbers that are not raw bytes; all other types are in int32_data."""
_PLAIN = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}
"""The attributes in which a Constant node may have its value instead of a tensor."""


def load(path: str | os.PathLike[str], *, largest: int = LARGEST, memory: int | None = None) -> Network:
    """The network in an ONNX file, opset 7 and newer.

    Args:
        path: the file. Weights in further files must lie in its folder.
        largest: bytes that one value may take when the network runs.
        memory: bytes that all values may take at the same time then; by default 8 GiB, or half of the machine's memory
            if that is less (see :class:`Network`).

    Raises:
        UnsupportedOperatorError: operators that starconv has not; all of them are named.
        FileContentError: the file is damaged, or holds something else or more than it may.
        MissingPackageError: the package onnx is not there. OSError: the file cannot be read.
    """
    return Network(read_graph(path), largest=largest, memory=memory)


def read_graph(path: str | os.PathLike[str]) -> Graph:
    """The graph in an ONNX file; errors as :func:`load`."""
    onnx = optional_import("onnx", "onnx", "An ONNX file", "nets")
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentTypeError("path", path, "the path of a file")
    reader = _Reader(onnx, path)
    try:
        return reader.graph()
    except UnicodeDecodeError as error:
        raise reader.wrong(f"an ONNX file with names in UTF-8 ({error})") from None


class _Reader:
    """One file being read. Errors name the file."""

    def __init__(self, onnx: Any, path: str | os.PathLike[str]) -> None:
        self.onnx, self.path = onnx, path
        self.folder = Path(os.path.realpath(path)).parent
        self.borrowed: dict[Path, int] = {}
        self.raw: dict[int, Array] = {}
        """The raw data of large initializers, by their numbers."""

    def wrong(self, expected: str) -> FileContentError:
        return FileContentError(self.path, expected)

    def graph(self) -> Graph:
        model = self._parsed()
        graph = model.graph
        # protobuf gives text that is no UTF-8 as bytes, or raises when it is looked at.
        odd = next((text for text in _texts(graph) if not isinstance(text, str)), None)
        if odd is not None:
            raise self.wrong(f"an ONNX file with names in UTF-8, not {odd[:40]!r}")
        opset = self._opset(model)
        ops = (f"{node.domain}.{node.op_type}".removeprefix("ai.onnx.").removeprefix(".") for node in graph.node)
        refuse_unsupported(os.fspath(self.path), ops)
        if graph.sparse_initializer:
            raise self.wrong("dense weights; sparse ones are not supported")
        constants = self._constants(graph)
        self._check(model, constants)
        try:
            inputs = [self._value(value) for value in graph.input if value.name not in constants]
            types = self._types(model, constants)
            outputs = tuple(self._value(value, types.get(value.name)) for value in graph.output)
            used = {name for node in graph.node for name in node.input} | {value.name for value in outputs}
            nodes = [node for node in graph.node if node.op_type != "Constant"]
            names = layer_names(nodes, constants)
            return Graph(
                graph.name or Path(self.path).stem,
                tuple(
                    self._node(node, name, self._results(node, opset)) for node, name in zip(nodes, names, strict=True)
                ),
                {name: array for name, array in constants.items() if name in used},
                tuple(inputs),
                outputs,
                opset,
            )
        except ArgumentValueError as error:
            raise self.wrong(f"a network whose values are given once and before their use ({error})") from None

    def _parsed(self) -> Any:
        with BufferedReader(FileIO(self.path), BUFFER) as file:
            status = os.fstat(file.fileno())
            size = status.st_size
            if not stat.S_ISREG(status.st_mode):
                raise self.wrong("an ONNX file; this is a device or a pipe")
            if size > _LARGEST_FILE:
                raise self.wrong(f"an ONNX file of at most {_LARGEST_FILE:,} bytes; this one has {size:,}")
            if not size:
                raise self.wrong("an ONNX file; this one is empty")
            message, weights = outline(file, size)
            self.raw = self._read(file, weights)
        self.digest = hashlib.sha256(message).hexdigest()
        model = self.onnx.ModelProto()
        try:
            model.ParseFromString(message)
        except Exception as error:  # protobuf's DecodeError, whose place differs between its versions
            raise self.wrong(f"an ONNX file; it cannot be decoded ({error})") from None
        if not model.HasField("graph") or not model.graph.node:
            raise self.wrong("an ONNX file; there is no network in it")
        return model

    def _read(self, file: "BufferedReader[FileIO]", weights: dict[int, tuple[int, int]]) -> dict[int, Array]:
        """Weights straight from the file to where they stay, side by side in one block that begins each on a line."""
        starts = [0, *itertools.accumulate(-(-length // 64) * 64 for _, length in weights.values())]
        block = memory.aligned_empty(starts[-1], np.uint8)
        found = {}
        for (number, (first, length)), start in zip(weights.items(), starts, strict=False):
            found[number] = block[start : start + length]
            file.seek(first)
            if file.readinto(found[number].data) != length:
                raise self.wrong("an ONNX file that nobody writes to meanwhile")
        return found

    def _opset(self, model: Any) -> int:
        newest = self.onnx.defs.onnx_opset_version()
        versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
        if len(versions) != 1 or not OLDEST <= versions[0] <= newest:
            raise self.wrong(f"one version of ONNX's operators, from {OLDEST} to {newest}; the file says {versions}")
        return int(versions[0])

    def _check(self, model: Any, constants: dict[str, Array]) -> None:
        """Let the package check the model, in which inputs stand for large weights.

        Its first check in a process takes 10 ms, for which it makes the schemas of all operators. So what it found
        right is kept among the compiled kernels, under the digest of the file without its large weights.
        """
        verdict = cache.key("checked by onnx", self.onnx.__version__, self.digest)
        if cache.load(verdict) is not None:
            return
        stripped = self._stripped(model, constants)
        try:
            _check_without_shapes(self.onnx, stripped)
        except Exception as error:  # its ValidationError, and others of what C++ reports
            raise self.wrong(f"a valid ONNX model ({_first_lines(error)})") from None
        cache.store(verdict, b"")

    def _stripped(self, model: Any, constants: dict[str, Array]) -> Any:
        """The model without large weights, for which inputs stand, and without outputs that say nothing but a name."""
        graph, given = model.graph, {value.name for value in model.graph.input}
        kept = [tensor for tensor in graph.initializer if constants[tensor.name].nbytes <= SMALL]
        stripped = self.onnx.ModelProto()
        stripped.ir_version = model.ir_version
        stripped.opset_import.extend(model.opset_import)
        stripped.graph.name = graph.name or "network"
        stripped.graph.input.extend(graph.input)
        stripped.graph.output.extend(value for value in graph.output if _has_type(value))
        plain = {tensor.name for tensor in kept if tensor.data_location != self.onnx.TensorProto.EXTERNAL}
        stripped.graph.initializer.extend(tensor for tensor in kept if tensor.name in plain)
        numbers = {dtype: number for number, dtype in DTYPES.items()}
        for name, array in constants.items():
            if name not in given and name not in plain:
                stripped.graph.input.append(
                    self.onnx.helper.make_tensor_value_info(name, numbers[array.dtype], array.shape)
                )
        stripped.graph.node.extend(node for node in graph.node if node.op_type != "Constant")
        return stripped

    def _types(self, model: Any, constants: dict[str, Array]) -> dict[str, int]:
        """The types of outputs that the file names only: they follow from the nodes. In ONNX's numbers."""
        names = [value.name for value in model.graph.output if not _has_type(value)]
        if not names:
            return {}
        numbers = {dtype: number for number, dtype in DTYPES.items()}
        found = {name: numbers[array.dtype] for name, array in constants.items()}
        try:
            graph = self.onnx.shape_inference.infer_shapes(self._stripped(model, constants)).graph
        except Exception as error:  # its InferenceError, and others of what C++ reports
            raise self.wrong(f"types for the outputs {', '.join(names)} ({_first_lines(error)})") from None
        for value in (*graph.input, *graph.value_info):
            found[value.name] = value.type.tensor_type.elem_type
        unknown = [name for name in names if not found.get(name)]
        if unknown:
            raise self.wrong(f"outputs with a type, or one that follows from the nodes; {', '.join(unknown)} have none")
        return {name: found[name] for name in names}

    # Parts

    def _constants(self, graph: Any) -> dict[str, Array]:
        """Initializers and the values of Constant nodes, by name."""
        found: dict[str, Array] = {}

        def add(name: str, array: Array) -> None:
            if not name or name in found:
                raise self.wrong(f"weights with a name of their own; two have the name {name!r}")
            array.flags.writeable = False
            found[name] = array

        for number, tensor in enumerate(graph.initializer):
            add(tensor.name, self._array(tensor, f"weight {tensor.name!r}", self.raw.get(number)))
        for node in graph.node:
            if node.op_type != "Constant":
                continue
            if len(node.attribute) != 1 or len(node.output) != 1:
                raise self.wrong(f"one value in Constant {node.name!r}")
            given = self._attribute(node, node.attribute[0])
            name = node.attribute[0].name
            if name in _PLAIN and isinstance(given, (int, float, tuple)):
                try:
                    given = np.array(given, _PLAIN[name])
                except (ValueError, TypeError) as error:
                    raise self.wrong(f"numbers in Constant {node.name!r} ({error})") from None
            if not isinstance(given, np.ndarray):
                raise self.wrong(f"a value of numbers in Constant {node.name!r}, not {name}")
            add(node.output[0], given)
        return found

    def _array(self, tensor: Any, what: str, raw: Array | None = None) -> Array:
        """A tensor as an array. Its declared size must be that of its data (`raw`, where the tensor is without it)."""
        kinds = self.onnx.TensorProto
        if tensor.data_type not in DTYPES:
            names = {number: name for name, number in kinds.DataType.items()}
            said = names.get(tensor.data_type, str(tensor.data_type))
            raise self.wrong(f"numbers of a type that NumPy has; {what} is of type {said}")
        dtype = DTYPES[tensor.data_type]
        dims = tuple(tensor.dims)
        if any(size < 0 for size in dims) or len(dims) > 32:
            raise self.wrong(f"sizes >= 0; {what} has the shape {dims[:40]}")
        if tensor.HasField("segment"):
            raise self.wrong(f"whole weights; {what} is a segment of one")
        count = math.prod(dims)
        stored = dtype.newbyteorder("<")
        if tensor.data_location == kinds.EXTERNAL:
            flat = self._external(tensor, what, count, stored)
        elif raw is not None or tensor.HasField("raw_data"):
            raw = np.frombuffer(tensor.raw_data, np.uint8) if raw is None else raw
            if len(raw) != count * dtype.itemsize:
                raise self.wrong(
                    f"{count * dtype.itemsize} bytes for {what} of shape {dims} and {dtype}, not {len(raw)}"
                )
            flat = raw.view(stored)
        else:
            numbers = getattr(tensor, _FIELDS.get(dtype.name, "int32_data"))
            if len(numbers) != count:
                raise self.wrong(f"{count} numbers for {what} of shape {dims}, not {len(numbers)}")
            flat = self._listed(numbers, dtype, what)
        try:
            return flat.astype(dtype, copy=False).reshape(dims)
        except ValueError as error:
            raise self.wrong(f"{what} of a shape that can be; {dims} cannot ({error})") from None

    def _listed(self, numbers: Sequence[Any], dtype: np.dtype[Any], what: str) -> Array:
        if dtype == np.float16:
            dtype_in_file = np.dtype(np.uint16)  # the bits of each number
        else:
            dtype_in_file = dtype
        try:
            flat = np.fromiter(numbers, dtype_in_file, len(numbers))
        except (OverflowError, ValueError, TypeError) as error:
            raise self.wrong(f"{what} with numbers that fit {dtype} ({error})") from None
        return flat.view(np.float16) if dtype == np.float16 else flat

    def _external(self, tensor: Any, what: str, count: int, dtype: np.dtype[Any]) -> Array:
        """Weights in another file, which must lie in the folder of this one, links followed."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        try:
            offset, needed = int(entries.get("offset", "0")), count * dtype.itemsize
            length = int(entries.get("length", str(needed)))
        except ValueError:
            raise self.wrong(f"offset and length of {what} in numbers") from None
        if not location or "\0" in location or "\\" in location or Path(location).is_absolute():
            raise self.wrong(f"{what} in a file of the same folder, not {location!r}")
        place = Path(os.path.realpath(self.folder / location))
        if not place.is_relative_to(self.folder):
            raise self.wrong(f"{what} in a file of the same folder; {location!r} is outside")
        if not place.is_file():
            raise self.wrong(f"{what} in the file {location!r}, which is not there")
        size = place.stat().st_size
        if length != needed or offset < 0 or offset + needed > size:
            raise self.wrong(
                f"{needed} bytes for {what} in {location!r}; it has {size}, the model says {length} from {offset} on"
            )
        # What a file holds is read once: a small file must not be read as many large weights.
        self.borrowed[place] = self.borrowed.get(place, 0) + needed
        if self.borrowed[place] > size:
            raise self.wrong(f"weights that share nothing in {location!r}; they take more bytes than it has")
        with open(place, "rb") as file:
            file.seek(offset)
            found = np.fromfile(file, dtype, count)
        if found.size != count:
            raise self.wrong(f"{needed} bytes for {what} in {location!r}")
        return found

    def _attribute(self, node: Any, attribute: Any) -> Attribute:
        kinds = self.onnx.AttributeProto
        what = f"attribute {attribute.name!r} of {node.op_type} {node.name!r}"
        match attribute.type:
            case kinds.INT:
                return int(attribute.i)
            case kinds.FLOAT:
                return float(attribute.f)
            case kinds.STRING:
                return str(attribute.s.decode())
            case kinds.INTS:
                return tuple(int(entry) for entry in attribute.ints)
            case kinds.FLOATS:
                return tuple(float(entry) for entry in attribute.floats)
            case kinds.STRINGS:
                return tuple(entry.decode() for entry in attribute.strings)
            case kinds.TENSOR:
                return self._array(attribute.t, what)
        raise self.wrong(f"numbers, text or a tensor for {what}")

    def _node(self, node: Any, name: str, outputs: tuple[str, ...]) -> Node:
        attributes = {attribute.name: self._attribute(node, attribute) for attribute in node.attribute}
        return Node(node.op_type, name, tuple(node.input), outputs, attributes)

    def _results(self, node: Any, opset: int) -> tuple[str, ...]:
        """What a node gives.

        Before opset 14 it is further outputs that tell a batch norm to take the statistics of the batch, as in training
        (Operator Schemas, BatchNormalization-9, "output case #1"; onnxruntime does so), whether they are used or not.
        """
        if node.op_type != "BatchNormalization" or opset >= 14:
            return tuple(node.output)
        first, *statistics = node.output
        if any(statistics):
            raise self.wrong(
                f"a network exported for inference; BatchNormalization {node.name or first!r} is in training mode, for "
                f"it gives {', '.join(repr(name) for name in statistics if name)} too"
            )
        return (first,)

    def _value(self, value: Any, kind: int | None = None) -> Value:
        """An input or output; `kind` is the type of one of which the file says none."""
        tensor = value.type.tensor_type
        if kind is None and value.type.WhichOneof("value") == "tensor_type":
            kind = tensor.elem_type
        if kind not in DTYPES:
            raise self.wrong(
                f"arrays of numbers that NumPy has for inputs and outputs; {value.name!r} is something else"
            )
        if not tensor.HasField("shape"):
            return Value(value.name, DTYPES[kind], None)
        shape: list[int | str | None] = []
        for size in tensor.shape.dim:
            # Some exporters write -1 for a free size.
            known = size.dim_value if size.HasField("dim_value") and size.dim_value >= 0 else size.dim_param or None
            shape.append(known)
        return Value(value.name, DTYPES[kind], tuple(shape))


def _has_type(value: Any) -> bool:
    """Whether a file says more of an output than its name."""
    return value.type.WhichOneof("value") is not None


def _check_without_shapes(onnx: Any, model: Any) -> None:
    """The package's check, for which inputs and outputs of unknown shape are not wrong, as they are not for ONNX."""
    tensors = [value.type.tensor_type for value in (*model.graph.input, *model.graph.output) if _has_type(value)]
    unknown = [tensor for tensor in tensors if tensor.elem_type and not tensor.HasField("shape")]
    for tensor in unknown:
        tensor.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    finally:
        for tensor in unknown:
            tensor.ClearField("shape")


def _texts(graph: Any) -> Iterator[Any]:
    """All names in a graph."""
    yield graph.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
        yield from (text for entry in node.metadata_props for text in (entry.key, entry.value))
    for tensor in graph.initializer:
        yield tensor.name
        yield from (text for entry in tensor.external_data for text in (entry.key, entry.value))
    for value in (*graph.input, *graph.output):
        yield value.name
        yield from (size.dim_param for size in value.type.tensor_type.shape.dim)


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


# Writing


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write `graph` to `path` as an ONNX file, completely or not at all.

    Raises:
        ArgumentValueError: a graph that is none in ONNX (its checker says why), or one of more than 2 GiB.
        MissingPackageError: the package onnx is not there. OSError: the file cannot be written.
    """
    onnx = optional_import("onnx", "onnx", "An ONNX file", "nets")
    helper, numbers = onnx.helper, {dtype: number for number, dtype in DTYPES.items()}

    def info(value: Value) -> Any:
        return helper.make_tensor_value_info(value.name, numbers[value.dtype], value.shape)

    def attributes(node: Node) -> Iterable[Any]:
        for name, value in node.attributes.items():
            plain = onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
            # Of nothing no type can be told; lists that may be empty are of integers.
            kind = onnx.AttributeProto.INTS if isinstance(plain, tuple) and not plain else None
            yield helper.make_attribute(name, plain, attr_type=kind)

    total = sum(array.nbytes for array in graph.constants.values())
    if total > _LARGEST_FILE - 2**20:
        raise ArgumentValueError("graph", graph.name, f"weights of less than 2 GiB; these have {total:,} bytes")
    try:
        nodes = []
        for node in graph.nodes:
            proto = helper.make_node(node.op, node.inputs, node.outputs, node.name)
            proto.attribute.extend(attributes(node))
            nodes.append(proto)
        weights = [
            onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
            for name, array in graph.constants.items()
        ]
        proto_graph = helper.make_graph(
            nodes, graph.name or "network", list(map(info, graph.inputs)), list(map(info, graph.outputs)), weights
        )
        imports = [helper.make_opsetid("", graph.opset)]
        model = helper.make_model(
            proto_graph,
            opset_imports=imports,
            ir_version=helper.find_min_ir_version_for(imports),
            producer_name="starconv",
        )
        if any(value.shape is None for value in graph.outputs):
            model = onnx.shape_inference.infer_shapes(model)
        _check_without_shapes(onnx, model)
    except StarconvError:
        raise
    except Exception as error:  # the checker's own class, and what protobuf says to values that do not fit
        raise ArgumentValueError("graph", graph.name, f"a network that ONNX can hold ({_first_lines(error)})") from None
    with replaced_when_complete(path) as file:
        file.write(model.SerializeToString())
