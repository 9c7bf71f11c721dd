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

It is written in rooms of its own: `values` for what is computed with, `function` for what that is written into, and
`transposing` for what takes many instructions of both. Kernels take what they need from here.
"""

from .function import Function, module_source
from .transposing import loaded_transposed, transposed
from .values import ITEMSIZES, Condition, Int, IntLike, Mask, Pointer, Registers, Vector

__all__ = [
    "ITEMSIZES",
    "Condition",
    "Function",
    "Int",
    "IntLike",
    "Mask",
    "Pointer",
    "Registers",
    "Vector",
    "loaded_transposed",
    "module_source",
    "transposed",
]
