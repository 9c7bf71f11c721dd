"""The gradient of a loss with respect to the kernel, against finite differences, and as a convolution."""

from functools import partial

import numpy as np

from ..draw import signed
from ..html import digits, figure, grid, paragraphs, row, shape
from ..mathml import formula, frac, name, op, sub, summation, words
from ..mathml import row as terms
from ..section import Names, Section

CODE = """\
n = min(32, *grey.shape)                        # n x n pixels from the middle
i, j = (grey.shape[0] - n) // 2, (grey.shape[1] - n) // 2
x = grey[np.newaxis, np.newaxis, i : i + n, j : j + n]
goal = sc.conv2d(x, K[np.newaxis, np.newaxis])  # what the edge kernel answers
guess = np.full((1, 1, 3, 3), 1 / 9)            # a kernel that does not yet

def loss(kernel):
    return 0.5 * np.sum((sc.conv2d(x, kernel) - goal) ** 2)

grad_output = sc.conv2d(x, guess) - goal        # dL/dO
gradient = sc.grad.conv2d_weight(x, guess.shape, grad_output)
as_convolution = sc.conv2d(x, grad_output)      # input convolved with dL/dO

h = 1e-3
differences = np.empty_like(guess)
for tap in np.ndindex(guess.shape):
    nudge = np.zeros_like(guess)
    nudge[tap] = h
    differences[tap] = (loss(guess + nudge) - loss(guess - nudge)) / (2 * h)

scale = np.abs(gradient).max() + np.finfo(float).tiny
error = np.abs(differences - gradient).max() / scale
same = np.abs(as_convolution - gradient).max() / scale
assert error < 1e-6 and same < 1e-12

# One step of gradient descent, of the length that lowers the loss most.
slope, curve = np.sum(gradient**2), np.sum(sc.conv2d(x, gradient) ** 2)
length = slope / (curve + np.finfo(float).tiny)
learnt = guess - length * gradient
before, after = loss(guess), loss(learnt)
"""


def show(names: Names) -> str:
    """Three ways to the same nine numbers, and one step downhill."""
    gradient, grad_output, x = names["gradient"], names["grad_output"], names["x"]
    palette = partial(signed, limit=float(np.abs(gradient).max()) or 1.0)
    i, j, p, q = name("i"), name("j"), name("p"), name("q")
    position = (words("i + p"), words("j + q"))
    text = partial(digits, places=4)
    return (
        paragraphs(
            "A network learns its kernels: a <em>loss</em> <var>L</var> says how bad the outputs are, and each number "
            "of the kernel is moved a little in the direction that lowers it. This needs the <em>gradient</em> of the "
            "loss with respect to the kernel. From the definition, an output changes with a kernel number by exactly "
            "the pixel that lies under it, and the chain rule adds up all outputs:"
        )
        + formula(
            frac(terms(op("∂"), sub(name("O"), i, j)), terms(op("∂"), sub(name("K"), p, q))),
            op("="),
            sub(name("X"), *position),
        )
        + formula(
            frac(words("∂ L"), terms(op("∂"), sub(name("K"), p, q))),
            op("="),
            summation(words("i , j")),
            sub(name("X"), *position),
            frac(words("∂ L"), terms(op("∂"), sub(name("O"), i, j))),
            op("."),
        )
        + paragraphs(
            "Compare this with the definition: it is a convolution again, of the input with a kernel that is the "
            f"gradient of the output. Here a {shape(x[0, 0])} piece of the picture and a gradient of "
            f"{shape(grad_output[0, 0])} give {shape(gradient[0, 0])} numbers, one for each number of the kernel.",
            "To be believed, a gradient should be checked against its definition as a limit. Nudge one number of the "
            f"kernel by ±<var>h</var> = {names['h']:g}, see how the loss changes, and divide:",
        )
        + formula(
            frac(words("∂ L"), terms(op("∂"), sub(name("K"), p, q))),
            op("≈"),
            frac(
                terms(
                    words("L ( K + h"),
                    sub(name("E"), p, q),
                    words(") − L ( K − h"),
                    sub(name("E"), p, q),
                    op(")"),
                ),
                words("2 h"),
            ),
        )
        + paragraphs(
            "where <var>E</var><sub><var>p</var>,<var>q</var></sub> is 1 at (<var>p</var>, <var>q</var>) and 0 "
            "elsewhere. The loss is half the sum of the squared differences from what the edge kernel answers, and "
            "the kernel in question a plain mean:"
        )
        + figure(
            row(
                grid(gradient[0, 0], "<code>grad.conv2d_weight</code>", palette=palette, text=text, kind="wide"),
                "=",
                grid(
                    names["as_convolution"][0, 0],
                    "<code>conv2d(x, grad_output)</code>",
                    palette=palette,
                    text=text,
                    kind="wide",
                ),
                "≈",
                grid(names["differences"][0, 0], "finite differences", palette=palette, text=text, kind="wide"),
                kind="equation",
            ),
            "The same nine numbers in three ways. Relative to the largest, the convolution differs by "
            f"{digits(names['same'])} and the finite differences by {digits(names['error'])}. As this loss is "
            "quadratic, central differences have no error of their own; what is left is rounding.",
        )
        + paragraphs(
            "One step against the gradient, of the length that lowers the loss most, "
            f"{_step(names['before'], names['after'])} Repeating such steps is all that training is."
        )
    )


def _step(before: float, after: float) -> str:
    if not before > after:
        return f"leaves it at {digits(before)}: this piece of the picture has nothing to learn from."
    share = 100 * (1 - after / before)
    return f"takes it from {digits(before)} to {digits(after)}, by {digits(share, 1)} %."


SECTION = Section("gradient", "Learning: the gradient", CODE, show)
