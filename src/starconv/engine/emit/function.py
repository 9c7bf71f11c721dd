"""A function under construction: its arguments, its loops and branches, and its text; and modules of functions.

Values (see `values`) write their instructions to it one after the other, so the text grows as the emitter runs. Only
what comes round in a loop is filled in later.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from .target import Target
from .values import Condition, Int, IntLike, Mask, Pointer, Registers, Vector

__all__ = ["Function", "module_source"]


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

    def fence(self) -> None:
        """What was stored past the caches is there before anything that is stored after this (x86)."""
        self.call("llvm.x86.sse.sfence", "void", [])

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
