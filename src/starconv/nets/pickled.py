"""The pickle of a torch-saved state_dict, read as data: nothing in it is imported, called or looked up by name.

A pickle is a program for a small stack machine. This one knows the instructions that dictionaries of tensors need, and
of the names that a pickle may mention only those of :data:`NAMES`, each of which stands for a few lines here. Any
other instruction or name ends the reading with :class:`Refused`.

Source of the instructions: the comments of CPython's Lib/pickletools.py; of the rest: torch/serialization.py and
torch/_utils.py.
"""

import math
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..arguments import Array

__all__ = ["Entry", "Name", "Refused", "StorageKey", "read_pickle"]


class Refused(Exception):
    """A pickle that is damaged, or holds more than tensors by name; its text says what."""


class Name(NamedTuple):
    """A name that the pickle mentions: the one of a class or function, never the thing itself."""

    module: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.module}.{self.attribute}"


class StorageKey(NamedTuple):
    """What a pickle says of the numbers of a tensor, which are elsewhere in the file."""

    dtype: str
    key: str
    size: int


class Entry(NamedTuple):
    """A name of the pickle with what it stands for: its arguments in, the value out."""

    arguments: int
    build: Callable[..., Any]


DTYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
"""The dtype of each of torch's storages; bfloat16 has none in NumPy."""
LONGEST = 2**20
"""Characters that a name or text may have, and bytes that one instruction's argument may have."""
LARGEST = 2**40
"""Elements of a tensor, counted as if none of its axes were empty."""
DEEPEST = 64
"""Axes that a tensor may have, which is NumPy's limit."""

_MARK = object()


class _Machine:
    """The stack, the memo, and one method for each kind of instruction."""

    def __init__(self, file: BinaryIO, storage: Callable[[StorageKey], Array]) -> None:
        self.file = file
        self.storage = storage
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Read instructions up to the one that ends the pickle, and return what it left."""
        while True:
            code = self.bytes(1)
            if code == b".":
                return self.pop()
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise Refused(f"instruction {code!r}, which no file of weights needs")
            instruction(self)

    def bytes(self, count: int) -> bytes:
        if count > LONGEST:
            raise Refused(f"a piece of {count} bytes")
        found = self.file.read(count)
        if len(found) < count:
            raise Refused("it ends too early")
        return found

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.bytes(struct.calcsize(form)))[0]

    def text(self, length: int) -> str:
        try:
            return self.bytes(length).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise Refused("text that is not UTF-8") from None

    def line(self) -> str:
        found = self.file.readline(LONGEST)
        if not found.endswith(b"\n"):
            raise Refused("it ends too early")
        try:
            return found[:-1].decode("ascii")
        except UnicodeDecodeError:
            raise Refused("a name that is not ASCII") from None

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise Refused("an instruction without its operands")
        return self.stack.pop()

    def popped(self, kind: type, what: str) -> Any:
        value = self.pop()
        if type(value) is not kind:
            raise Refused(f"a {type(value).__name__} in the place of {what}")
        return value

    def top(self, kind: type, what: str) -> Any:
        value = self.popped(kind, what)
        self.push(value)
        return value

    def since_mark(self) -> list[Any]:
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                values = self.stack[place + 1 :]
                del self.stack[place:]
                return values
        raise Refused("an instruction without its operands")

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def put(self, index: int) -> None:
        if not self.stack or self.stack[-1] is _MARK:
            raise Refused("an instruction without its operands")
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise Refused("a reference to nothing")
        self.push(self.memo[index])

    def set_items(self, values: list[Any]) -> None:
        if len(values) % 2:
            raise Refused("a name without a value")
        target = self.top(dict, "a dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) not in (str, int):
                raise Refused(f"a {type(key).__name__} as a key of a dictionary")
            target[key] = value

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def append(self, values: list[Any]) -> None:
        self.top(list, "a list").extend(values)

    def named(self, module: str, attribute: str) -> None:
        name = Name(module, attribute)
        if name not in NAMES and not (module == "torch" and attribute in DTYPES):
            raise Refused(f"{name}, which is no part of a state_dict (save model.state_dict() alone)")
        self.push(name)

    def named_by_stack(self) -> None:
        attribute, module = self.popped(str, "a name"), self.popped(str, "a name")
        self.named(module, attribute)

    def reduce(self) -> None:
        """What another reader would call: the value that :data:`NAMES` has for it."""
        arguments = self.popped(tuple, "arguments")
        name = self.popped(Name, "a name")
        entry = NAMES.get(name)
        if entry is None or len(arguments) < entry.arguments:
            raise Refused(f"{name} with {len(arguments)} arguments")
        self.push(entry.build(*arguments[: entry.arguments]))

    def build(self) -> None:
        """The attributes of a dictionary, such as torch's _metadata: read, and left out."""
        self.popped(dict, "attributes")
        self.top(dict, "a dictionary")

    def persistent(self) -> None:
        """A storage: ("storage", its type, its key, the device, its size, and in old files what it is a part of)."""
        found = self.popped(tuple, "a storage")
        kind = found[1] if len(found) in (5, 6) else None
        if type(kind) is not Name or kind.attribute not in DTYPES or found[0] != "storage":
            raise Refused("a reference that is not to a storage")
        if type(found[2]) is not str or type(found[4]) is not int or found[4] < 0:
            raise Refused("a storage without a key or a size")
        if len(found) == 6 and found[5] is not None:
            raise Refused("a storage that is a part of another, as torch before 0.4 wrote them")
        self.push(self.storage(StorageKey(DTYPES[kind.attribute], found[2], found[4])))


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Array:
    """The elements of `storage` that a tensor consists of, as a view: no element is copied."""
    if not isinstance(storage, np.ndarray) or type(offset) is not int or offset < 0:
        raise Refused("a tensor without its storage")
    for sizes in (size, stride):
        if type(sizes) is not tuple or len(sizes) > DEEPEST or any(type(n) is not int or n < 0 for n in sizes):
            raise Refused("a tensor whose sizes or strides are no numbers")
    if len(size) != len(stride):
        raise Refused(f"a tensor with {len(size)} sizes and {len(stride)} strides")
    if math.prod(side for side in size if side) > LARGEST:
        raise Refused(f"a tensor of shape {_brief(size)}")
    if not math.prod(size):
        return np.empty(size, storage.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    # Strides of zero would make any number of elements out of one.
    if last >= storage.size or math.prod(size) > storage.size:
        raise Refused(f"a tensor of shape {_brief(size)} in a storage of {storage.size} numbers")
    bytes_apart = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, bytes_apart, writeable=False)


def _brief(sizes: tuple[int, ...]) -> str:
    text = str(sizes)
    return text if len(text) < 60 else text[:59] + "…"


def _parameter(tensor: Any, *_: Any) -> Array:
    if not isinstance(tensor, np.ndarray):
        raise Refused("a parameter without its tensor")
    return tensor


NAMES = {
    Name("collections", "OrderedDict"): Entry(0, dict),
    Name("torch._utils", "_rebuild_tensor"): Entry(4, _tensor),
    Name("torch._utils", "_rebuild_tensor_v2"): Entry(6, _tensor),
    Name("torch._utils", "_rebuild_parameter"): Entry(3, _parameter),
}
"""All names that a pickle may use, how many arguments they take at least, and what is made of them here."""


def _long(machine: _Machine) -> None:
    machine.push(int.from_bytes(machine.bytes(machine.number("<B")), "little", signed=True))


_INSTRUCTIONS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": lambda m: m.number("<B"),  # the protocol
    b"\x95": lambda m: m.number("<Q"),  # the length of a frame, which is of no interest here
    b"(": lambda m: m.push(_MARK),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": _long,
    b"G": lambda m: m.push(m.number(">d")),
    b"X": lambda m: m.push(m.text(m.number("<I"))),
    b"\x8c": lambda m: m.push(m.text(m.number("<B"))),
    b"}": lambda m: m.push({}),
    b"]": lambda m: m.push([]),
    b")": lambda m: m.push(()),
    b"t": lambda m: m.push(tuple(m.since_mark())),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"s": lambda m: m.set_item(),
    b"u": lambda m: m.set_items(m.since_mark()),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.since_mark()),
    b"q": lambda m: m.put(m.number("<B")),
    b"r": lambda m: m.put(m.number("<I")),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"h": lambda m: m.get(m.number("<B")),
    b"j": lambda m: m.get(m.number("<I")),
    b"c": lambda m: m.named(m.line(), m.line()),
    b"\x93": lambda m: m.named_by_stack(),
    b"R": lambda m: m.reduce(),
    b"b": lambda m: m.build(),
    b"Q": lambda m: m.persistent(),
}
"""What each instruction does; pickletools calls them PROTO, FRAME, MARK, NONE, NEWTRUE, NEWFALSE, BININT and so on."""


def read_pickle(file: BinaryIO, storage: Callable[[StorageKey], Array] | None = None) -> Any:
    """What the pickle at the place where `file` stands holds: dictionaries, lists, tuples, numbers, text and tensors.

    Args:
        file: read up to the end of the pickle and no further.
        storage: the numbers, (N,), that a reference of the pickle stands for; without it there may be none.

    Raises:
        Refused: the pickle is damaged, or mentions anything else.
    """
    return _Machine(file, storage or _no_storage).run()


def _no_storage(key: StorageKey) -> Array:
    raise Refused("a storage where there should be none")
