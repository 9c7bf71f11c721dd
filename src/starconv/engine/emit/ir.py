"""Functions written in Python, emitted as LLVM IR: counted loops, integers, pointers and vectors with operators.

The point is that an algorithm reads like what it computes. This function adds two rows of n floats::

    f = Function("add_rows", target, ["n", "a", "b", "out"])
    n, a, b, out = f.integer("n"), *(f.pointer(name, "float") for name in ("a", "b", "out"))
    for i in f.loop(n, step=8):
        out.at(i).store(a.at(i).load(8) + b.at(i).load(8))
    text = f.source()

Values are of three kinds. :class:`Int` is a 64-bit integer; arithmetic on known ones happens in Python.
:class:`Pointer` steps in elements of one type. :class:`Vector` is a scalar or a vector of floats or integers. A
``for`` over `loop` runs its body once, while the text of the loop is written around it; registers that a loop changes
are named in `carry`.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Union

import numpy as np

from .target import Target

__all__ = ["Condition", "Function", "Int", "Mask", "Pointer", "Registers", "Vector"]

IntLike = Union["Int", int]

ITEMSIZES = {"float": 4, "double": 8, "i8": 1, "i16": 2, "i32": 4, "i64": 8}


class Int:
    """A 64-bit integer of the function: an SSA value, or a number known while emitting."""

    __slots__ = ("function", "known", "text")

    def __init__(self, function: "Function", text: str, known: int | None = None) -> None:
        self.function, self.text, self.known = function, text, known

    def _combine(self, other: IntLike, opcode: str, fold: "object") -> "Int":
        other = self.function.number(other)
        if self.known is not None and other.known is not None:
            return self.function.number(fold(self.known, other.known))  # type: ignore[operator]
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

    def _choose(self, other: IntLike, name: str, fold: "object") -> "Int":
        other = self.function.number(other)
        if self.known is not None and other.known is not None:
            return self.function.number(fold(self.known, other.known))  # type: ignore[operator]
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


class Function:
    """One function of a module, in the making. Arguments and results are i64 and ptr only."""

    def __init__(self, name: str, target: Target, arguments: Sequence[str] = (), *, internal: bool = False) -> None:
        self.name, self.target = name, target
        self.declared: dict[str, str] = {}
        self._arguments = list(arguments)
        self._internal = internal
        self._lines: list[str] = ["entry:"]
        self._counter = 0
        self._block = "entry"

    # -- what an algorithm says ------------------------------------------------------------------------------

    def integer(self, argument: str) -> Int:
        """The argument of that name as an integer."""
        return Int(self, f"%{argument}")

    def pointer(self, argument: str, element: str) -> Pointer:
        """The argument of that name as the address of `element`."""
        return Pointer(self, self.emit(f"inttoptr i64 %{argument} to ptr"), element)

    def number(self, value: IntLike) -> Int:
        """`value` as an Int."""
        return value if isinstance(value, Int) else Int(self, str(int(value)), int(value))

    def address(self, value: Int, element: str) -> Pointer:
        """The pointer whose address is the number `value`."""
        return Pointer(self, self.emit(f"inttoptr i64 {value.text} to ptr"), element)

    def zero(self, element: str, lanes: int) -> Vector:
        """A vector of zeros."""
        return Vector(self, "zeroinitializer" if lanes > 1 else "0.0", element, lanes)

    def constant(self, value: float, element: str, lanes: int = 1) -> Vector:
        """`value`, rounded to `element`, in every lane."""
        rounded = float(np.float32(value)) if element == "float" else float(value)
        text = "0x" + struct.pack(">d", rounded).hex().upper()
        lanes_text = ", ".join([f"{element} {text}"] * lanes)
        return Vector(self, text if lanes == 1 else f"<{lanes_text}>", element, lanes)

    def lanes_between(self, first: IntLike, last: IntLike, lanes: int) -> Mask:
        """The lanes first, ..., last - 1 of those that there are."""
        low = self.number(first).maximum(0).minimum(lanes)
        high = self.number(last).minimum(lanes).maximum(low)
        below = [Int(self, self.emit(f"shl i64 1, {bound.text}")) for bound in (high, low)]
        return Mask(self, below[0] - below[1], lanes)

    def buffer(self, element: str, count: int) -> Pointer:
        """Room for `count` elements on the stack. Not inside a loop: it is freed only when the function returns."""
        return Pointer(self, self.emit(f"alloca [{count} x {element}], align 64"), element)

    def loop(
        self, start: IntLike, stop: IntLike | None = None, step: IntLike = 1, *, carry: Sequence[Registers] = ()
    ) -> Iterator[Int]:
        """Like ``range``: the body of the ``for`` is emitted once. Registers that it replaces must be in `carry`."""
        start, stop = (0, start) if stop is None else (start, stop)
        first, last, step = self.number(start), self.number(stop), self.number(step)
        if first.known is not None and last.known is not None and step.known is not None:
            if last.known <= first.known:
                return
            if last.known - first.known <= step.known:  # once: no loop at all
                yield first
                return
        head, body, done = self._label("loop"), self._label("body"), self._label("done")
        before = self._block
        self.line(f"br label %{head}")
        self._start(head)
        index = self._fresh()
        phis = [f"{index} = phi i64 [ {first.text}, %{before} ]"]
        slots: list[tuple[Registers, object, str]] = []
        for registers in carry:
            for key, value in registers.values.items():
                name = self._fresh()
                phis.append(f"{name} = phi {value.type} [ {value.text}, %{before} ]")
                registers.values[key] = Vector(self, name, value.element, value.lanes)
                slots.append((registers, key, name))
        where = len(self._lines)
        self._lines.extend([""] * len(phis))
        going = self.emit(f"icmp slt i64 {index}, {last.text}")
        self.line(f"br i1 {going}, label %{body}, label %{done}")
        self._start(body)
        at_head = [registers.values[key] for registers, key, _ in slots]
        yield Int(self, index)
        following = self.emit(f"add nsw i64 {index}, {step.text}")
        latch = self._block
        self.line(f"br label %{head}")
        ends = [following] + [registers.values[key].text for registers, key, _ in slots]
        for number, (text, end) in enumerate(zip(phis, ends, strict=True)):
            self._lines[where + number] = f"  {text}, [ {end}, %{latch} ]"
        self._start(done)
        for (registers, key, _), value in zip(slots, at_head, strict=True):
            registers.values[key] = value

    @contextmanager
    def when(self, condition: Condition) -> Iterator[None]:
        """The body is run where the condition holds. It may store, but not replace registers."""
        yes, after = self._label("when"), self._label("after")
        self.line(f"br i1 {condition.text}, label %{yes}, label %{after}")
        self._start(yes)
        yield
        self.line(f"br label %{after}")
        self._start(after)

    @contextmanager
    def either(self, condition: Condition) -> Iterator[tuple["_Branch", "_Branch"]]:
        """Two bodies, ``with f.either(c) as (yes, no): with yes: ...; with no: ...``."""
        labels = self._label("yes"), self._label("no"), self._label("after")
        self.line(f"br i1 {condition.text}, label %{labels[0]}, label %{labels[1]}")
        yield _Branch(self, labels[0], labels[2]), _Branch(self, labels[1], labels[2])
        self._start(labels[2])

    def hold_loads(self) -> None:
        """Loads do not move across here: LLVM would start those of a long run early, and spill what they displace."""
        self.line('call void asm sideeffect "", "~{memory}"()')

    def call(self, name: str, result: str, operands: Sequence[tuple[str, str]]) -> str:
        """Call an intrinsic or another function; gives the name of its result ("" for void)."""
        types = ", ".join(type_ for type_, _ in operands)
        arguments = ", ".join(f"{type_} {text}" for type_, text in operands)
        if name.startswith("llvm."):
            self.declared[name] = f"declare {result} @{name}({types})"
        if result == "void":
            self.line(f"call void @{name}({arguments})")
            return ""
        return self.emit(f"call {result} @{name}({arguments})")

    def run(self, function: "Function", *arguments: IntLike | Pointer) -> None:
        """Call a function of the same module that was written in this language."""
        operands = []
        for argument in arguments:
            text = argument.text if isinstance(argument, Pointer) else self.number(argument).text
            if isinstance(argument, Pointer):
                text = self.emit(f"ptrtoint ptr {text} to i64")
            operands.append(("i64", text))
        self.call(function.name, "void", operands)

    # -- what the values say ---------------------------------------------------------------------------------

    def emit(self, instruction: str) -> str:
        """Add an instruction with a result; gives the result's name."""
        name = self._fresh()
        self._lines.append(f"  {name} = {instruction}")
        return name

    def line(self, instruction: str) -> None:
        """Add an instruction without a result."""
        self._lines.append("  " + instruction)

    def source(self) -> str:
        """The function's IR."""
        arguments = ", ".join(f"i64 %{name}" for name in self._arguments)
        kind = "internal void" if self._internal else "void"
        lines = "\n".join(self._lines)
        tuned = f' "tune-cpu"="{self.target.tuning}"' if self.target.tuning else ""
        return f"define {kind} @{self.name}({arguments}) nounwind{tuned} {{\n{lines}\n  ret void\n}}\n"

    def _fresh(self) -> str:
        self._counter += 1
        return f"%v{self._counter}"

    def _label(self, kind: str) -> str:
        self._counter += 1
        return f"{kind}{self._counter}"

    def _start(self, label: str) -> None:
        self._lines.append(f"{label}:")
        self._block = label


class _Branch:
    """One side of `Function.either`."""

    def __init__(self, function: Function, label: str, after: str) -> None:
        self.function, self.label, self.after = function, label, after

    def __enter__(self) -> None:
        self.function._start(self.label)

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        self.function.line(f"br label %{self.after}")


def module_source(functions: Sequence[Function]) -> str:
    """The IR of a module of these functions, with what they declare."""
    declarations: dict[str, str] = {}
    for function in functions:
        declarations |= function.declared
    return "\n".join([*declarations.values(), *(function.source() for function in functions), "!0 = !{i32 1}\n"])


def transposed(rows: Sequence[Vector]) -> list[Vector]:
    """n vectors of n lanes with rows and columns exchanged, in log2(n) rounds of n shuffles.

    First within groups of 128 bits, then whole groups: shuffles of both kinds are one instruction on every target.
    """
    lanes = rows[0].lanes
    assert len(rows) == lanes
    size = min(lanes, 16 // ITEMSIZES[rows[0].element])
    starts = range(0, lanes, size)

    def within(a: Vector, b: Vector, picked: Sequence[int]) -> Vector:
        """Per group, these lanes: below `size` of a, above of b."""
        return a.shuffled(b, [start + (i if i < size else lanes - size + i) for start in starts for i in picked])

    columns = []  # per block of `size` rows and column of a group: what its groups hold of this column
    for start in starts:
        block = list(rows[start : start + size])
        if size == 4:  # rows 0 and 1, 2 and 3 interleaved, then their halves
            low, high = (0, 4, 1, 5), (2, 6, 3, 7)
            halves = [[within(a, b, half) for a, b in (block[:2], block[2:])] for half in (low, high)]
            block = [within(a, b, picked) for a, b in halves for picked in ((0, 1, 4, 5), (2, 3, 6, 7))]
        elif size == 2:
            block = [within(block[0], block[1], picked) for picked in ((0, 2), (1, 3))]
        columns.append([_separate(vector) for vector in block] if lanes == 16 else block)
    found: list[Vector] = [rows[0]] * lanes
    for j in range(size):
        blocks = [block[j] for block in columns]
        step = 1
        while step < len(blocks):  # every second group of two vectors, then the others
            for i in (i for i in range(len(blocks)) if not i & step):
                a, b = blocks[i], blocks[i + step]
                blocks[i], blocks[i + step] = (
                    a.shuffled(b, [2 * size * g + part * size + k for g in range(len(starts)) for k in range(size)])
                    for part in range(2)
                )
            step *= 2
        for group, vector in enumerate(blocks):
            found[group * size + j] = vector
    return found


def loaded_transposed(rows: Sequence[Pointer]) -> list[Vector]:
    """The n x n elements at n addresses, with rows and columns exchanged.

    Registers of two halves are loaded half by half, row i beside row i + n / 2: then no element has to change sides,
    and 8x8 takes 16 shuffles where `transposed` takes 48.
    """
    lanes, itemsize = len(rows), ITEMSIZES[rows[0].element]
    if lanes * itemsize != 32:
        return transposed([row.load(lanes) for row in rows])
    half = lanes // 2
    low = [lane for i in range(half // 2) for lane in (i, i + lanes)]
    low = low + [lane + half for lane in low]
    high = [lane + half // 2 for lane in low]
    columns: list[Vector] = []
    for side in (0, half):
        square = [
            rows[i].at(side).load(half).shuffled(rows[i + half].at(side).load(half), range(lanes)) for i in range(half)
        ]
        for _ in range(half.bit_length() - 1):
            pairs = range(half // 2)
            square = [square[i].shuffled(square[i + half // 2], mask) for i in pairs for mask in (low, high)]
        columns += square
    return columns


def _separate(vector: Vector) -> Vector:
    """The same vector of 16 lanes, by way of an empty instruction, where it is one register of AVX-512.

    LLVM tries to merge shuffles of shuffles: in the four rounds of 16 lanes it finds nothing in 8 ms, in two and two in
    2. The empty instruction costs the kernel nothing.
    """
    f = vector.function
    if f.target.name != "avx512" or vector.element != "float":
        return vector
    text = f.emit(f'call {vector.type} asm "", "=v,0"({vector.type} {vector.text})')
    return Vector(f, text, vector.element, vector.lanes)


def _known(value: IntLike) -> int | None:
    return value.known if isinstance(value, Int) else value


def _vector_type(element: str, lanes: int) -> str:
    return element if lanes == 1 else f"<{lanes} x {element}>"


def _mangled(element: str, lanes: int) -> str:
    short = {"float": "f32", "double": "f64"}[element]
    return short if lanes == 1 else f"v{lanes}{short}"
