"""The edge filter on the photograph, and a close look at one light and one dark line."""

import numpy as np

from ..draw import brightness, scale_limit, signed
from ..html import digits, figure, legend, paragraphs, picture, row, shape
from ..section import Names, Section

CODE = """\
from starconv.data.kernels import named_kernel

horizontal = named_kernel("horizontal-edges")   # this is K
vertical = named_kernel("vertical-edges")       # and this its transpose
kernels = np.stack([horizontal, vertical])[:, np.newaxis]
found = sc.conv2d(grey[np.newaxis], kernels)    # two output channels

flat = np.mean(np.abs(found) < 0.1)             # share of outputs near zero
"""
CLOSE = 24
"""Pixels per side of the close look."""


def show(names: Names) -> str:
    """Both responses in full, and a close look."""
    found = names["found"]
    limit = scale_limit(found)
    titles = ("horizontal edges", "vertical edges")
    responses = [
        picture(signed(response, limit), f"{title} {shape(response)}", alt=f"Response to {title}", footer=legend(limit))
        for title, response in zip(titles, found, strict=True)
    ]
    return (
        paragraphs(
            "Now the same kernel on the photograph. A line is light where the picture turns from dark to light on the "
            "way down, dark where it turns from light to dark, and the stronger the contrast, the stronger the line. "
            f"The answers range from {digits(found[0].min())} to {digits(found[0].max())}; with brightness between 0 "
            "and 1 no answer of this kernel can be beyond ±3.",
            f"Where the picture is smooth the answer is near zero: {digits(100 * names['flat'], 1)} % of all outputs "
            "are within ±0.1, nearly grey. The second kernel, with rows and columns exchanged, shows the vertical "
            f"edges. Two kernels, two <em>output channels</em>: the result has the shape {shape(found)}.",
        )
        + figure(
            row(*responses, kind="pictures"),
            f"Signed responses; the scale ends at ±{digits(limit)}, which leaves out the strongest 0.5 % of the "
            "values.",
        )
        + _close_look(names, limit)
    )


def _close_look(names: Names, limit: float) -> str:
    grey, response = names["grey"], names["found"][0]
    looks = []
    for letter, place in (("A", names["best"]), ("B", names["worst"])):
        # The window over the response, and over the picture one pixel further: the centre of a 3 x 3 patch.
        size = [min(CLOSE, length) for length in response.shape]
        top, left = (
            int(np.clip(position - span // 2, 0, length - span))
            for position, span, length in zip(place, size, response.shape, strict=True)
        )
        crop = (slice(top, top + size[0]), slice(left, left + size[1]))
        under = grey[top + 1 : top + 1 + size[0], left + 1 : left + 1 + size[1]]
        looks += [
            picture(brightness(under), f"around {letter} {shape(under)}", alt=f"The picture around {letter}"),
            picture(
                signed(response[crop], limit), f"response {shape(response[crop])}", alt=f"The response around {letter}"
            ),
        ]
    return paragraphs(
        "Close up, around the two patches A and B of the template section: the strongest light line and the strongest "
        "dark one."
    ) + figure(row(*looks, kind="pictures four"), "Picture and response, pixel by pixel.")


SECTION = Section("photograph", "Edges in the photograph", CODE, show)
