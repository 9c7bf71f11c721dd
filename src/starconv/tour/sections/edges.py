"""Both kinds of horizontal edge, on a synthetic picture in which every number can be checked."""

from functools import partial

from ..draw import brightness, signed
from ..html import digits, figure, grid, paragraphs, row, shape, sign
from ..section import Names, Numbers, Section

CODE = """\
from starconv.data.synthetic import edges_picture

bands = edges_picture(9)                        # dark, light, dark
lines = sc.conv2d(bands[np.newaxis], K[np.newaxis, np.newaxis])[0]
nothing = sc.conv2d(bands[np.newaxis], K.T[np.newaxis, np.newaxis])[0]
"""


def show(names: Names) -> str:
    """The picture, the response to the kernel and to its transpose, as numbers in their colours."""
    bands, lines, nothing, k = names["bands"], names["lines"], names["nothing"], names["K"]
    palette = partial(signed, limit=float(abs(lines).max()))
    return paragraphs(
        "The kernel <var>K</var> subtracts the three pixels above from the three pixels below. On a synthetic picture "
        "of a light band on dark ground there are exactly two edges, one of each kind. Where <em>dark lies above "
        f"light</em> the answer is +{digits(lines.max())}, a light line; where <em>light lies above dark</em> it is "
        f"{digits(lines.min())}, a dark line. Everywhere else the kernel’s numbers, whose sum is {digits(k.sum())}, "
        "meet equal brightness and cancel.",
        "Each line is two pixels high, because two positions of a kernel of three rows reach across the same edge.",
        f"The transposed kernel, a template for <em>vertical</em> edges, finds {_how_many(nothing)} in this picture.",
    ) + figure(
        row(
            grid(bands, f"<var>X</var> {shape(bands)}", palette=brightness),
            grid(lines, f"<var>X</var> ⋆ <var>K</var> {shape(lines)}", palette=palette, text=sign),
            grid(nothing, f"<var>X</var> ⋆ <var>K</var><sup>T</sup> {shape(nothing)}", palette=palette, text=sign),
            kind="equation",
        ),
        "Signed numbers are light above zero, grey at zero, dark below zero, here and in all pictures that follow.",
    )


def _how_many(response: Numbers) -> str:
    return "nothing" if not response.any() else "something"


SECTION = Section("edges", "Two kinds of edge", CODE, show)
