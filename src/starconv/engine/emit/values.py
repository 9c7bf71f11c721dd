"""What kernels compute with: integers, truth values, masks, pointers and vectors, whose operators write instructions.

A value is the name of a result in the function under construction, and what Python has to know of it: an element type,
a number of lanes, or that an integer is known already. Operators ask the function to write one more instruction.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from .function import Function

__all__ = ["ITEMSIZES", "Condition", "Int", "IntLike", "Mask", "Pointer", "Registers", "Vector"]

IntLike = Union["Int", int]

ITEMSIZES = {"float": 4, "double": 8, "i8": 1, "i16": 2, "i32": 4, "i64": 8}


class Int:
    """A 64-bit integer of the function: an SSA value, or a number known while emitting."""

    __slots__ = ("function", "known", "text")

    def __init__(self, function: "Function", text: str, known: int | None = None) -> None:
        self.function, self.text, self.known = function, text, known

    def _combine(self, other: IntLike, opcode: str, fold: Callable[[int, int], int]) -> "Int":
        other = self.function.number(other)
        if self.known is not None and other.known is not None:
            return self.function.number(fold(self.known, other.known))
        return Int(self.function, self.function.emit(f"{opcode} i64 {self.text}, {other.text}"))

    def __add__(self, other: IntLike) -> "Int":
        if self.known == 0:
            return self.function.number(other)
        return self if _known(other) == 0 else self._combine(other, "add nsw", lambda a, b: a + b)

    def __sub__(self, other: IntLike) -> "Int":
        return self if _known(other) == 0 else self._combine(other, "sub nsw", lambda a, b: a - b)

    def __mul__(self, other: IntLike) -> "Int":
        if self.known == 1:
            return self.function.number(other)
        return self if _known(other) == 1 else self._combine(other, "mul nsw", lambda a, b: a * b)

    def __floordiv__(self, other: IntLike) -> "Int":
        """Quotient of non-negative numbers."""
        return self if _known(other) == 1 else self._combine(other, "udiv", lambda a, b: a // b)

    def __mod__(self, other: IntLike) -> "Int":
        """Remainder of non-negative numbers."""
        return self._combine(other, "urem", lambda a, b: a % b)

    def __rmul__(self, other: int) -> "Int":
        return self * other

    def __radd__(self, other: int) -> "Int":
        return self + other

    def __rsub__(self, other: int) -> "Int":
        return self.function.number(other) - self

    def _compare(self, other: IntLike, predicate: str) -> "Condition":
        other = self.function.number(other)
        return Condition(self.function, self.function.emit(f"icmp {predicate} i64 {self.text}, {other.text}"))

    def __lt__(self, other: IntLike) -> "Condition":
        return self._compare(other, "slt")

    def __le__(self, other: IntLike) -> "Condition":
        return self._compare(other, "sle")

    def __gt__(self, other: IntLike) -> "Condition":
        return self._compare(other, "sgt")

    def __ge__(self, other: IntLike) -> "Condition":
        return self._compare(other, "sge")

    def equals(self, other: IntLike) -> "Condition":
        """Whether both are the same number (`==` stays Python's identity)."""
        return self._compare(other, "eq")

    def minimum(self, other: IntLike) -> "Int":
        """The smaller of two."""
        return self._choose(other, "smin", min)

    def maximum(self, other: IntLike) -> "Int":
        """The larger of two."""
        return self._choose(other, "smax", max)

    def _choose(self, other: IntLike, name: str, fold: Callable[[int, int], int]) -> "Int":
        other = self.function.number(other)
        if self.known is not None and other.known is not None:
            return self.function.number(fold(self.known, other.known))
        call = self.function.call(f"llvm.{name}.i64", "i64", [("i64", self.text), ("i64", other.text)])
        return Int(self.function, call)


class Condition:
    """A truth value of the function, for `Function.when` and for choosing."""

    __slots__ = ("function", "text")

    def __init__(self, function: "Function", text: str) -> None:
        self.function, self.text = function, text

    def __and__(self, other: "Condition") -> "Condition":
        return Condition(self.function, self.function.emit(f"and i1 {self.text}, {other.text}"))

    def __or__(self, other: "Condition") -> "Condition":
        return Condition(self.function, self.function.emit(f"or i1 {self.text}, {other.text}"))

    def integer(self, yes: IntLike, no: IntLike) -> Int:
        """`yes` where it holds, else `no`."""
        f = self.function
        return Int(f, f.emit(f"select i1 {self.text}, i64 {f.number(yes).text}, i64 {f.number(no).text}"))

    def pointer(self, yes: "Pointer", no: "Pointer") -> "Pointer":
        """`yes` where it holds, else `no`."""
        text = self.function.emit(f"select i1 {self.text}, ptr {yes.text}, ptr {no.text}")
        return Pointer(self.function, text, yes.element)


class Mask:
    """Which lanes of a vector take part in a load or a store: the bits of a 64-bit integer, the first lane's lowest."""

    __slots__ = ("bits", "function", "lanes")

    def __init__(self, function: "Function", bits: Int, lanes: int) -> None:
        self.function, self.bits, self.lanes = function, bits, lanes

    def where(self, condition: Condition) -> "Mask":
        """The same lanes where the condition holds, else none."""
        return Mask(self.function, condition.integer(self.bits, 0), self.lanes)

    @property
    def text(self) -> str:
        """A vector of truth values."""
        f = self.function
        narrow = f.emit(f"trunc i64 {self.bits.text} to i{self.lanes}")
        return f.emit(f"bitcast i{self.lanes} {narrow} to <{self.lanes} x i1>")


class Pointer:
    """The address of an element of type `element` ("float", "double", "i8", ...)."""

    __slots__ = ("element", "function", "text")

    def __init__(self, function: "Function", text: str, element: str) -> None:
        self.function, self.text, self.element = function, text, element

    def at(self, offset: IntLike) -> "Pointer":
        """The pointer `offset` elements further on."""
        if _known(offset) == 0:
            return self
        offset = self.function.number(offset)
        step = self.function.emit(f"getelementptr {self.element}, ptr {self.text}, i64 {offset.text}")
        return Pointer(self.function, step, self.element)

    def at_bytes(self, offset: IntLike) -> "Pointer":
        """The pointer `offset` bytes further on."""
        return self.viewed("i8").at(offset).viewed(self.element)

    def viewed(self, element: str) -> "Pointer":
        """The same address, of elements of another type."""
        return Pointer(self.function, self.text, element)

    def past(self, boundary: int) -> Int:
        """Bytes by which the address is past a multiple of `boundary`, a power of two."""
        address = self.function.emit(f"ptrtoint ptr {self.text} to i64")
        return Int(self.function, self.function.emit(f"and i64 {address}, {boundary - 1}"))

    def disguised(self, turn: Int | None = None) -> "Pointer":
        """The same address, by way of an empty instruction that LLVM cannot look through.

        Loads from both stay two loads. LLVM would merge them, keep the value in a register, and spill others for it.
        In a loop that does not change the address, `turn` is a value that differs in each of its rounds.
        """
        constraints, more = ("=r,0", "") if turn is None else ("=r,0,r", f", i64 {turn.text}")
        text = self.function.emit(f'call ptr asm "", "{constraints}"(ptr {self.text}{more})')
        return Pointer(self.function, text, self.element)

    def load(self, lanes: int = 1) -> "Vector":
        """One element, or a vector of `lanes` consecutive ones; no alignment is needed beyond the element's."""
        type_ = _vector_type(self.element, lanes)
        text = self.function.emit(f"load {type_}, ptr {self.text}, align {ITEMSIZES[self.element]}")
        return Vector(self.function, text, self.element, lanes)

    def load_where(self, mask: Mask, otherwise: "Vector") -> "Vector":
        """The elements whose lanes are in `mask`, which alone are read, and those of `otherwise` in the other lanes."""
        type_, itemsize = otherwise.type, ITEMSIZES[self.element]
        operands = [("ptr", self.text), ("i32", str(itemsize)), (f"<{mask.lanes} x i1>", mask.text)]
        name = f"llvm.masked.load.{_mangled(self.element, mask.lanes)}.p0"
        text = self.function.call(name, type_, [*operands, (type_, otherwise.text)])
        return Vector(self.function, text, self.element, mask.lanes)

    def store_where(self, mask: Mask, value: "Vector") -> None:
        """Write the lanes that are in `mask` and nothing else."""
        operands = [(value.type, value.text), ("ptr", self.text), ("i32", str(ITEMSIZES[self.element]))]
        name = f"llvm.masked.store.{_mangled(self.element, mask.lanes)}.p0"
        self.function.call(name, "void", [*operands, (f"<{mask.lanes} x i1>", mask.text)])

    def broadcast(self, lanes: int) -> "Vector":
        """One element in all lanes of a vector."""
        return self.load().broadcast(lanes)

    def load_int(self) -> Int:
        """The i64 here, as an index."""
        return Int(self.function, self.function.emit(f"load i64, ptr {self.text}, align 8"))

    def prefetch(self) -> None:
        """Ask for the cache line here to be in the second-level cache soon. Any address will do."""
        self.function.call("llvm.prefetch.p0", "void", [("ptr", self.text), *[("i32", f"{n}") for n in (0, 2, 1)]])

    def store(self, value: "Vector", *, streaming: bool = False) -> None:
        """Write a scalar or a vector here; `streaming` goes past the caches and needs a vector-aligned address."""
        align = ITEMSIZES[self.element] * (value.lanes if streaming else 1)
        hint = ", !nontemporal !0" if streaming else ""
        self.function.line(f"store {value.type} {value.text}, ptr {self.text}, align {align}{hint}")


class Vector:
    """A scalar (`lanes` 1) or vector of floats or integers."""

    __slots__ = ("element", "function", "lanes", "text")

    def __init__(self, function: "Function", text: str, element: str, lanes: int) -> None:
        self.function, self.text, self.element, self.lanes = function, text, element, lanes

    @property
    def type(self) -> str:
        """LLVM's name of the type, "<8 x float>" or "float"."""
        return _vector_type(self.element, self.lanes)

    def _make(self, instruction: str) -> "Vector":
        return Vector(self.function, self.function.emit(instruction), self.element, self.lanes)

    def __add__(self, other: "Vector") -> "Vector":
        return self._make(f"fadd {self.type} {self.text}, {other.text}")

    def __sub__(self, other: "Vector") -> "Vector":
        return self._make(f"fsub {self.type} {self.text}, {other.text}")

    def __mul__(self, other: "Vector") -> "Vector":
        return self._make(f"fmul {self.type} {self.text}, {other.text}")

    def __neg__(self) -> "Vector":
        return self._make(f"fneg {self.type} {self.text}")

    def divided_by(self, other: "Vector") -> "Vector":
        """The quotient."""
        return self._make(f"fdiv {self.type} {self.text}, {other.text}")

    def square_root(self) -> "Vector":
        """The square root, correctly rounded."""
        name = f"llvm.sqrt.{_mangled(self.element, self.lanes)}"
        return Vector(
            self.function, self.function.call(name, self.type, [(self.type, self.text)]), self.element, self.lanes
        )

    def where(self, predicate: str, other: "Vector", yes: "Vector", no: "Vector") -> "Vector":
        """Lanes of `yes` where self compares with other by LLVM's `predicate` ("oeq", "uno", ...), else of `no`."""
        compared = self.function.emit(f"fcmp {predicate} {self.type} {self.text}, {other.text}")
        return yes._make(
            f"select {_vector_type('i1', self.lanes)} {compared}, {yes.type} {yes.text}, {no.type} {no.text}"
        )

    def times_plus(self, factor: "Vector", addend: "Vector") -> "Vector":
        """self * factor + addend: one rounding where the target has fma, two where it has not."""
        if not self.function.target.has_fma:
            return self * factor + addend
        operands = [(self.type, value.text) for value in (self, factor, addend)]
        text = self.function.call(f"llvm.fma.{_mangled(self.element, self.lanes)}", self.type, operands)
        return Vector(self.function, text, self.element, self.lanes)

    def raised_to(self, floor: "Vector") -> "Vector":
        """max(self, floor), where NaN stays NaN as in NumPy and PyTorch."""
        below = self.function.emit(f"fcmp olt {self.type} {self.text}, {floor.text}")
        return self._make(
            f"select {_vector_type('i1', self.lanes)} {below}, {self.type} {floor.text}, {self.type} {self.text}"
        )

    def lowered_to(self, ceiling: "Vector") -> "Vector":
        """min(self, ceiling), where NaN stays NaN."""
        above = self.function.emit(f"fcmp ogt {self.type} {self.text}, {ceiling.text}")
        return self._make(
            f"select {_vector_type('i1', self.lanes)} {above}, {self.type} {ceiling.text}, {self.type} {self.text}"
        )

    def broadcast(self, lanes: int) -> "Vector":
        """A scalar in all lanes of a vector."""
        if lanes == 1:
            return self
        f, type_ = self.function, _vector_type(self.element, lanes)
        first = f.emit(f"insertelement {type_} poison, {self.element} {self.text}, i64 0")
        mask = f"<{lanes} x i32> zeroinitializer"
        return Vector(f, f.emit(f"shufflevector {type_} {first}, {type_} poison, {mask}"), self.element, lanes)

    def lane(self, index: int) -> "Vector":
        """One lane as a scalar."""
        if self.lanes == 1:
            return self
        return Vector(
            self.function, self.function.emit(f"extractelement {self.type} {self.text}, i64 {index}"), self.element, 1
        )

    def shuffled(self, other: "Vector", lanes: Sequence[int]) -> "Vector":
        """The lanes numbered in `lanes` of self followed by other."""
        mask = ", ".join(f"i32 {lane}" for lane in lanes)
        operands = f"{self.type} {self.text}, {other.type} {other.text}"
        text = self.function.emit(f"shufflevector {operands}, <{len(lanes)} x i32> <{mask}>")
        return Vector(self.function, text, self.element, len(lanes))

    def converted(self, element: str, *, signed: bool = True) -> "Vector":
        """Each lane as `element`, a float type: widened, rounded, or from an integer."""
        if element == self.element:
            return self
        if self.element.startswith("i"):
            opcode = "sitofp" if signed else "uitofp"
        else:
            opcode = "fpext" if ITEMSIZES[element] > ITEMSIZES[self.element] else "fptrunc"
        text = self.function.emit(f"{opcode} {self.type} {self.text} to {_vector_type(element, self.lanes)}")
        return Vector(self.function, text, element, self.lanes)


class Registers:
    """Vectors that a loop changes: a list whose items may be replaced, by (row, column) or any other key."""

    def __init__(self, values: dict[object, Vector]) -> None:
        self.values = values

    def __getitem__(self, key: object) -> Vector:
        return self.values[key]

    def __setitem__(self, key: object, value: Vector) -> None:
        self.values[key] = value


def _known(value: IntLike) -> int | None:
    return value.known if isinstance(value, Int) else value


def _vector_type(element: str, lanes: int) -> str:
    return element if lanes == 1 else f"<{lanes} x {element}>"


def _mangled(element: str, lanes: int) -> str:
    short = {"float": "f32", "double": "f64"}[element]
    return short if lanes == 1 else f"v{lanes}{short}"
