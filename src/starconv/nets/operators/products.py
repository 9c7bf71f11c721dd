"""Products of matrices."""

from typing import Any

import numpy as np

from .table import Array, Call, Refusal, operator


@operator("MatMul", alike=True, kinds="iuf")
def matmul(call: Call, a: Array, b: Array) -> Array:
    """numpy.matmul."""
    if a.ndim and b.ndim:
        rows = a.shape[-2:-1] if a.ndim > 1 else ()
        columns = b.shape[-1:] if b.ndim > 1 else ()
        call.room((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *rows, *columns), a.dtype)
    return np.asarray(np.matmul(a, b))


@operator("Gemm", alike=True, kinds="iuf")
def gemm(call: Call, a: Array, b: Array, c: Array | None = None) -> Any:
    """Alpha A B + beta C, with A and B transposed where asked."""
    if a.ndim != 2 or b.ndim != 2:
        raise Refusal("both factors should be matrices")
    left = a.T if call.integer("transA", 0) else a
    right = b.T if call.integer("transB", 0) else b
    shape = call.room((left.shape[0], right.shape[1]), a.dtype)
    result = left @ right
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    if alpha != 1:
        result = (alpha * result).astype(a.dtype)
    if c is None:
        return result
    scaled = c if beta == 1 else (beta * c).astype(c.dtype)
    return result + np.broadcast_to(scaled, shape)


@operator("Einsum", alike=True, kinds="iuf")
def einsum(call: Call, first: Array, *more: Array) -> Array:
    """numpy.einsum with the equation, of letters, commas and an arrow."""
    equation = str(call.node.attributes.get("equation", "")).replace(" ", "")
    if not equation or not all(letter.isascii() and (letter.isalpha() or letter in ",->") for letter in equation):
        raise Refusal(f"equation {equation!r} should be one of letters, such as 'bij,bjk->bik'")
    if len(more) > 7 or any(factor is None for factor in more):
        raise Refusal("at most 8 factors are supported, and none can be left out")
    terms, arrow, output = equation.partition("->")
    sizes = {
        letter: size
        for term, factor in zip(terms.split(","), (first, *more), strict=True)
        for letter, size in zip(term, factor.shape, strict=True)
    }
    once = sorted(letter for letter in sizes if terms.count(letter) == 1)
    call.room([sizes.get(letter, 1) for letter in (output if arrow else once)], first.dtype)
    return np.asarray(np.einsum(equation, first, *more, optimize=bool(more)))
