"""A kernel is a template: each output is an inner product, largest where the picture looks like the kernel."""

from functools import partial

import numpy as np

from ..draw import brightness, signed
from ..html import Mark, digits, figure, grid, legend, paragraphs, picture, row, shape, sign
from ..mathml import formula, name, sub, words
from ..section import Names, Numbers, Section

CODE = """\
# The patches that look most and least like the kernel.
best = np.unravel_index(response.argmax(), response.shape)
worst = np.unravel_index(response.argmin(), response.shape)
patches = [grey[i : i + 3, j : j + 3] for i, j in (best, worst)]
scores = [K.ravel() @ patch.ravel() for patch in patches]
assert np.allclose(scores, [response.max(), response.min()])

# Any patch can be a template: the t x t patch P with most |P - mean P|.
t = max(3, min(grey.shape) // 14 | 1)
ones = np.ones((1, 1, t, t))
sums = sc.conv2d(grey[np.newaxis], ones)[0]
squares = sc.conv2d(grey[np.newaxis] ** 2, ones)[0]
contrast = squares - sums**2 / t**2             # |P - mean P|^2
home = np.unravel_index(contrast.argmax(), contrast.shape)
T = grey[home[0] : home[0] + t, home[1] : home[1] + t]
T = T - T.mean()

match = sc.conv2d(grey[np.newaxis], T[np.newaxis, np.newaxis])[0]
opposite = np.unravel_index(match.argmin(), match.shape)
assert np.isclose(match.max(), match[home])     # it finds itself
"""


def show(names: Names) -> str:
    """The kernel against its best and worst patch, then a template cut out of the picture."""
    grey, k, response = names["grey"], names["K"], names["response"]
    side = k.shape[0]
    marks = [Mark(_position(names[place]), side, letter) for place, letter in (("best", "A"), ("worst", "B"))]
    matches = row(
        *(_patch(patch, mark) for patch, mark in zip(names["patches"], marks, strict=True)),
        grid(k, f"<var>K</var> {shape(k)}", palette=partial(signed, limit=1), text=sign),
        kind="equation",
    )
    products = "".join(
        f'<p class="calculation"><b>{letter}</b> {_inner_product(patch, k, score)}</p>'
        for letter, patch, score in zip("AB", names["patches"], names["scores"], strict=True)
    )
    return (
        paragraphs(
            f"Read the definition once more: each output is a sum of products of the {k.size} numbers of the kernel "
            f"with {k.size} numbers of the picture. Written as vectors, that is an <em>inner product</em> of the "
            "flattened kernel with the flattened patch under it,"
        )
        + formula(
            sub(name("O"), name("i"), name("j")),
            words("= ⟨ vec ( K ) , vec ("),
            sub(name("patch"), name("i"), name("j")),
            words(") ⟩ ."),
        )
        + paragraphs(
            "An inner product measures likeness: it is large when both vectors point the same way, zero when they are "
            "perpendicular, negative when one looks like the negative of the other. So a kernel is a "
            "<em>template</em>, and the convolution holds it against every patch of the picture. Of all "
            f"{digits(response.size)} patches of this picture, A answers the template most strongly and B most "
            "negatively:"
        )
        + figure(
            row(
                picture(brightness(grey), f"<var>X</var> {shape(grey)}", alt="The picture", marks=marks),
                kind="pictures",
            )
            + matches
            + products,
            "Top: where A and B are. Below: their pixels beside the template, and both inner products with all their "
            "numbers."
            + (
                " A is dark above light, as the template is; B is the other way round."
                if response.max() > 0 > response.min()
                else ""
            ),
        )
        + _cut_out(names)
    )


def _cut_out(names: Names) -> str:
    grey, template, match, t = names["grey"], names["T"], names["match"], int(names["t"])
    home, opposite = _position(names["home"]), _position(names["opposite"])
    limit = float(np.abs(match).max()) or 1.0
    own = float(np.abs(template).max()) or 1.0
    pictures = row(
        picture(
            brightness(grey),
            f"<var>X</var> {shape(grey)}",
            alt="The picture",
            marks=[Mark(home, t, "C"), Mark(opposite, t, "D", letter_left=True)],
        ),
        picture(
            signed(match, limit),
            f"<var>X</var> ⋆ <var>T</var> {shape(match)}",
            alt="The response to the template",
            # One output stands for the patch whose upper left corner it is.
            marks=[Mark(home, 1, "C"), Mark(opposite, 1, "D", letter_left=True)],
            footer=legend(limit),
        ),
        picture(
            signed(template, own),
            f"<var>T</var> {shape(template)}, enlarged",
            alt="The template",
            width=0.6,
            footer=legend(own),
        ),
        kind="pictures",
    )
    return paragraphs(
        f"Nothing limits a template to {digits(names['K'].size)} numbers. Cut the {t} × {t} pixels with the greatest "
        "contrast out of the picture, subtract their mean so that evenly lit places score zero, and use what is left "
        f"as a kernel <var>T</var>. The largest of {digits(match.size)} outputs is {digits(match.max())}, exactly "
        "where the template was cut out (C). That is no luck: by the Cauchy–Schwarz inequality ⟨<var>T</var>, "
        "<var>P</var>⟩ ≤ ‖<var>T</var>‖ ‖<var>P</var> − mean <var>P</var>‖, and no patch has more contrast than this "
        f"one. The most negative output, {digits(match.min())}, is where the picture looks most like the template’s "
        "negative (D).",
    ) + figure(
        pictures,
        "The picture searched for a piece of itself. Grey is zero, light is alike, dark is the opposite.",
    )


def _position(place: tuple[np.intp, ...]) -> tuple[int, int]:
    return int(place[0]), int(place[1])


def _patch(patch: Numbers, mark: Mark) -> str:
    return grid(patch, f"{mark.letter} at {mark.corner}", palette=brightness, text=_pixel)


def _pixel(value: float) -> str:
    return f"{value:.2f}"


def _inner_product(patch: Numbers, kernel: Numbers, score: float) -> str:
    terms = (
        f"{_pixel(pixel)}·{f'({sign(weight)})' if weight < 0 else sign(weight)}"
        for pixel, weight in zip(patch.ravel(), kernel.ravel(), strict=True)
    )
    return f"{' + '.join(terms)} = <strong>{digits(score)}</strong>"


SECTION = Section("template", "A kernel is a template", CODE, show)
