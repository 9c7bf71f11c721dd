"""ONNX files without their weights: what is left to decode, and where in the file the weights are.

A protocol buffer is a list of fields: a number and a kind, then a value or, of texts, bytes and messages, their length
and themselves. So weights can be found by going from field to field, and what the decoder would copy twice is read
once, to where it stays. Where a file is not as it should be, that is for the decoder to say, which is given all of it.
"""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

__all__ = ["BUFFER", "SMALL", "Outline", "outline"]

BUFFER = 4096
"""Bytes that a file should read ahead: the description of a weight and what is before it have some hundred."""
SMALL = 1024
"""Bytes up to which weights stay with the rest; shapes and the like are smaller."""

# Numbers of fields in onnx.proto.
_GRAPH = 7  # of ModelProto
_INITIALIZER = 5  # of GraphProto
_RAW_DATA = 9  # of TensorProto

_BYTES = 2  # the kind of field that has a length
_SIZES = {1: 8, 5: 4}  # bytes of kinds that have a size
_HEAD = 20
"""Bytes of the longest beginning of a field, two integers of ten."""


class Outline(NamedTuple):
    """A ModelProto as bytes, without the raw data of its large initializers, and where that is in the file.

    Attributes:
        message: the bytes to be decoded.
        weights: by the number of the initializer, the first byte in the file and how many there are.
    """

    message: bytes
    weights: dict[int, tuple[int, int]]


def outline(file: BinaryIO, size: int) -> Outline:
    """The outline of an ONNX file of `size` bytes; all of it, where it is none or an unusual one."""
    try:
        return _model(file, size)
    except (_UnusualError, IndexError):
        return Outline(_read(file, 0, size), {})


class _UnusualError(Exception):
    """Bytes that are no fields, or not as they are usually written."""


def _model(file: BinaryIO, size: int) -> Outline:
    fields = list(_fields(file, 0, size))
    graphs = [field for field in fields if field[0] == _GRAPH]
    if len(graphs) != 1 or graphs[0][1] != _BYTES:
        raise _UnusualError
    _, _, begin, start, stop = graphs[0]
    graph, weights = _graph(file, start, stop)
    return Outline(_read(file, 0, begin) + _message(_GRAPH, graph) + _read(file, stop, size), weights)


def _graph(file: BinaryIO, start: int, stop: int) -> tuple[bytes, dict[int, tuple[int, int]]]:
    """A GraphProto without the raw data of its large initializers, and where that is."""
    pieces: list[bytes] = []
    weights: dict[int, tuple[int, int]] = {}
    done = start
    initializers = (field for field in _fields(file, start, stop) if field[:2] == (_INITIALIZER, _BYTES))
    for number, (_, _, begin, value, end) in enumerate(initializers):
        if end - value <= SMALL:
            continue
        raw = [field for field in _fields(file, value, end) if field[0] == _RAW_DATA]
        if len(raw) != 1 or raw[0][1] != _BYTES:
            continue
        _, _, before, first, after = raw[0]
        if after - first <= SMALL:
            continue
        weights[number] = (first, after - first)
        described = _read(file, value, before) + _read(file, after, end)
        pieces += [_read(file, done, begin), _message(_INITIALIZER, described)]
        done = end
    return b"".join([*pieces, _read(file, done, stop)]), weights


def _fields(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(number, kind, where it begins, where its value starts and stops) of each field between `start` and `stop`."""
    while start < stop:
        head = _read(file, start, start + _HEAD)
        key, at = _integer(head, 0)
        kind = key & 7
        if kind == _BYTES:
            length, at = _integer(head, at)
        elif kind == 0:
            length = _integer(head, at)[1] - at
        elif kind in _SIZES:
            length = _SIZES[kind]
        else:
            raise _UnusualError
        end = start + at + length
        if end > stop:
            raise _UnusualError
        yield key >> 3, kind, start, start + at, end
        start = end


def _read(file: BinaryIO, start: int, stop: int) -> bytes:
    file.seek(start)
    return file.read(stop - start)


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """An integer in groups of seven bits, the lowest first, all but the last marked by an eighth; and what follows."""
    value = shift = 0
    while data[at] >= 128:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
    if shift > 63:
        raise _UnusualError
    return value | data[at] << shift, at + 1


def _message(number: int, body: bytes) -> bytes:
    """A field that holds a message."""
    head = bytearray([number << 3 | _BYTES])
    length = len(body)
    while length >= 128:
        head.append(length & 127 | 128)
        length >>= 7
    return bytes(head) + bytes([length]) + body
