"""The convolution as a sparse, doubly Toeplitz matrix, and its transpose."""

from functools import partial

import numpy as np

from ..draw import signed
from ..html import digits, figure, grid, paragraphs, row, shape, sign
from ..mathml import formula, name, op, sup, words
from ..section import Names, Numbers, Section

CODE = """\
W = np.arange(1, 10).reshape(3, 3)              # nine numbers, all different
A = sc.conv_matrix(W, X.shape)                  # X has 5 x 5 pixels

conv = sc.conv2d(X[np.newaxis], W[np.newaxis, np.newaxis])[0]
assert np.array_equal(A @ X.ravel(), conv.ravel())

# The transpose goes from the 9 outputs back to the 25 inputs.
Y = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 10]])
stamped = sc.conv_transpose2d(Y[np.newaxis], W[np.newaxis, np.newaxis])[0]
assert np.array_equal(A.T @ Y.ravel(), stamped.ravel())
there, back = conv.ravel() @ Y.ravel(), X.ravel() @ stamped.ravel()
assert there == back                            # <A x, y> = <x, A' y>

# The matrix of the whole picture.
big = sc.conv_matrix(K.astype(float), grey.shape)
error = np.abs(big @ grey.ravel() - response.ravel()).max()
stored = big.data.nbytes + big.indices.nbytes + big.indptr.nbytes
"""


def show(names: Names) -> str:
    """The matrix with every entry, its transpose, stamps, and the picture's own matrix in numbers."""
    w, a, x, y = names["W"], names["A"], names["X"], names["Y"]
    conv, stamped, big = names["conv"], names["stamped"], names["big"]
    entries = a.toarray()
    blocks = shape((conv.shape[0], x.shape[0]))
    rows, columns = big.shape
    return (
        paragraphs(
            "A convolution is <em>linear</em> in its input, so it is multiplication with a matrix. Write the pixels "
            "of <var>X</var> row by row below each other as one long vector vec(<var>X</var>), the outputs likewise; "
            "then"
        )
        + formula(words("vec ( O ) = A vec ( X ) ."))
        + paragraphs(
            f"<var>A</var> has a row per output and a column per input, here {shape(a)} for a kernel <var>W</var> of "
            f"{shape(w)} on the {shape(x)} pixels from above. Each row holds the kernel where its window lies: "
            f"{w.size} entries, and {digits(x.size - w.size)} zeros. The next output’s window is one pixel further, "
            "so the next row is the same, shifted. A matrix with constant diagonals is called <em>Toeplitz</em>; this "
            f"one consists of {blocks} blocks that are Toeplitz and that are themselves placed in Toeplitz fashion. "
            "It is <em>doubly Toeplitz</em>."
        )
        + figure(
            row(_kernel(w), _matrix(entries, w, conv.shape, x.shape, "A"), kind="equation")
            + f'<p class="calculation">vec(O) = A vec(X) = ({", ".join(digits(value) for value in a @ x.ravel())})</p>',
            f"The kernel, and its matrix <var>A</var> {shape(a)}. Every entry has the colour and the number of the "
            f"kernel entry it comes from; empty cells are zero: {digits(a.nnz)} of {digits(entries.size)} entries are "
            "not. Thin lines part the rows of the picture.",
        )
        + paragraphs(
            "The transposed matrix goes the other way, from outputs to inputs. What it does has a name of its own, "
            "the <em>transposed convolution</em>: every number of <var>Y</var> stamps the whole kernel, multiplied by "
            "that number, onto the result, and where stamps overlap they add up. It is not the inverse, but the "
            "<em>adjoint</em>:"
        )
        + formula(
            words("⟨ A x , y ⟩ = ⟨ x ,"),
            sup(name("A"), op("⊤")),
            words("y ⟩ ,"),
        )
        + paragraphs(
            f"with the numbers of this section {digits(names['there'])} = {digits(names['back'])}. Training needs "
            "exactly this: if each output says how it should change, <var>A</var><sup>⊤</sup> says what that means "
            "for each input. Backpropagation through a convolution is a transposed convolution."
        )
        + figure(
            row(
                _matrix(entries.T, w, x.shape, conv.shape, "A transposed"),
                grid(y, f"<var>Y</var> {shape(y)}", palette=partial(signed, limit=float(np.abs(y).max()))),
                "→",
                grid(
                    stamped,
                    f"from <var>A</var><sup>⊤</sup> vec(<var>Y</var>) {shape(stamped)}",
                    palette=partial(signed, limit=float(np.abs(stamped).max())),
                    text=sign,
                ),
                kind="equation",
            ),
            f"<var>A</var><sup>⊤</sup> {shape(entries.T)} multiplied with vec(<var>Y</var>) is "
            "<code>conv_transpose2d</code>: two stamps of the kernel, one times 1, one times 10, that overlap in the "
            f"middle ({digits(stamped[2, 2])} = 9 · 1 + 1 · 10).",
        )
        + paragraphs(
            f"The matrix of the edge filter on the whole picture has {digits(rows)} rows and {digits(columns)} "
            f"columns. As a full table of 8-byte numbers it would need {_bytes(rows * columns * 8)}; its "
            f"{digits(big.nnz)} stored entries need {_bytes(names['stored'])}, and the {names['K'].size} numbers of "
            f"the kernel {names['K'].size * 8} bytes. That is the point of a convolution: it is a matrix that is "
            "nearly empty, and whose other entries are nearly all the same. Multiplied with the picture it gives the "
            f"response from above, {_difference(names['error'])}."
        )
    )


def _difference(error: float) -> str:
    return "to the last digit" if error == 0 else f"with a difference of at most {digits(error)}"


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{digits(round(count, 1), 1)} {unit}"
        count /= 1000
    return f"{digits(round(count, 1), 1)} TB"


def _kernel(w: Numbers) -> str:
    cells = "".join(
        "<tr>" + "".join(f'<td class="e{p}{q}">{w[p, q]}</td>' for q in range(w.shape[1])) + "</tr>"
        for p in range(w.shape[0])
    )
    return f'<table class="grid"><caption><var>W</var> {shape(w)}</caption><tbody>{cells}</tbody></table>'


def _matrix(entries: Numbers, w: Numbers, row_size: tuple[int, ...], column_size: tuple[int, ...], label: str) -> str:
    """Every entry of A in the colour of its kernel entry, with lines between the picture's rows."""
    places = {int(value): place for place, value in np.ndenumerate(w)}
    rows, columns = entries.shape
    parts = [f'<rect class="paper" width="{columns}" height="{rows}"/>']
    for (i, j), value in np.ndenumerate(entries):
        if value:
            p, q = places[int(value)]
            parts.append(f'<rect class="e{p}{q}" x="{j + 0.04:g}" y="{i + 0.04:g}" width=".92" height=".92"/>')
            parts.append(f'<text class="e{p}{q}" x="{j + 0.5:g}" y="{i + 0.53:g}">{value}</text>')
    parts += [f'<path d="M0 {i}H{columns}"/>' for i in range(0, rows + 1, row_size[1])]
    parts += [f'<path d="M{j} 0V{rows}"/>' for j in range(0, columns + 1, column_size[1])]
    box = f"-.1 -.1 {columns + 0.2:g} {rows + 0.2:g}"
    return (
        f'<div class="matrix" style="flex:0 1 {1.5 * columns:g}rem"><svg viewBox="{box}" role="img" '
        f'aria-label="{label}, {rows} x {columns}">{"".join(parts)}</svg></div>'
    )


SECTION = Section("matrix", "The convolution as a matrix", CODE, show)
