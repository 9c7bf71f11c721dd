"""The pieces of which the page is built: paragraphs, figures, grids of numbers, pictures, code.

All take and return HTML; what comes from the user (a file name) is escaped where it enters. Minus signs are U+2212.
"""

import io
import keyword
import tokenize
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..view.save import Still
from . import draw

__all__ = [
    "Mark",
    "code",
    "digits",
    "drawing",
    "figure",
    "grid",
    "legend",
    "paragraphs",
    "picture",
    "row",
    "shape",
    "sign",
    "table",
]


class Mark(NamedTuple):
    """A square of pixels in a picture to point at: its upper left corner, its side, and the letter beside it."""

    corner: tuple[int, int]
    side: int
    letter: str = ""
    letter_left: bool = False


def digits(value: float, places: int = 2) -> str:
    """A number as text: integers as they are, others with `places` decimals; tiny and huge ones as a power of ten."""
    number = float(value)
    if number.is_integer() and abs(number) < 1e15:
        text = f"{int(number):,}".replace(",", "\u202f")
    elif abs(number) < 0.5 * 10**-places or abs(number) >= 1e7:
        mantissa, exponent = f"{number:.1e}".split("e")
        text = f'<span class="shape">{mantissa} · 10<sup>{sign(int(exponent))}</sup></span>'
    else:
        text = f"{number:.{places}f}"
    return text.replace("-", "−")


def sign(value: float) -> str:
    """An integer or short number with a proper minus sign."""
    return f"{value:g}".replace("-", "−")


def shape(of: Any) -> str:
    """A shape as the field writes it, 3 × 512 × 512: of an array, dense or sparse, or given as a tuple."""
    sizes = getattr(of, "shape", of)
    return f'<span class="shape">{" × ".join(map(str, sizes))}</span>'


def paragraphs(*texts: str) -> str:
    """Each text as a paragraph."""
    return "".join(f"<p>{text}</p>" for text in texts)


def figure(content: str, caption: str, *, id: str = "") -> str:
    """Something to look at, with its caption below."""
    attribute = f' id="{id}"' if id else ""
    return f"<figure{attribute}>{content}<figcaption>{caption}</figcaption></figure>"


def row(*items: str, kind: str = "") -> str:
    """Things side by side, below each other where the window is narrow; single characters are operators between "
    "them."""
    cells = (item if item.startswith("<") else f'<span class="operator">{item}</span>' for item in items)
    return f'<div class="row {kind}">{"".join(cells)}</div>'


def grid(
    values: NDArray[np.generic],
    label: str,
    *,
    palette: Callable[[NDArray[np.generic]], draw.Colours],
    text: Callable[[float], str] = digits,
    id: str = "",
    kind: str = "",
) -> str:
    """A small matrix with its numbers, each cell in the colour that its value has in pictures."""
    colours = palette(values)
    lines = []
    for i, line in enumerate(values):
        cells = []
        for j, value in enumerate(line):
            style = f"background:{draw.hex_colour(colours[i, j])};color:{draw.ink(colours[i, j])}"
            cells.append(f'<td data-at="{i},{j}" style="{style}">{text(value)}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    attribute = f' id="{id}"' if id else ""
    return f'<table class="grid {kind}"{attribute}><caption>{label}</caption><tbody>{"".join(lines)}</tbody></table>'


def picture(
    pixels: draw.Colours,
    label: str,
    *,
    alt: str,
    marks: Iterable[Mark] = (),
    width: float = 1.0,
    footer: str = "",
) -> str:
    """A picture with its label, and rings around what the text points at.

    `width` is its share of the room that a picture has, for pictures that are to be compared in size.
    """
    height_px, width_px = pixels.shape[:2]
    rings = "".join(_ring(mark, width_px, height_px) for mark in marks)
    overlay = f'<svg viewBox="0 0 {width_px} {height_px}" aria-hidden="true">{rings}</svg>' if rings else ""
    crisp = " crisp" if max(width_px, height_px) < 200 else ""
    # No higher than 27rem, whatever the picture's proportions.
    style = (
        f"width:min({100 * width:.4g}%,{27 * width * width_px / height_px:.4g}rem);aspect-ratio:{width_px}/{height_px}"
    )
    image = f'<img src="{draw.data_uri(pixels)}" width="{width_px}" height="{height_px}" alt="{escape(alt)}">'
    return (
        f'<div class="picture"><div class="frame{crisp}" style="{style}">{image}{overlay}</div>'
        f'<div class="label">{label}</div>{footer}</div>'
    )


def drawing(light: Still, dark: Still) -> str:
    """A figure of starconv.view, as light or as dark as the page."""
    images = "".join(
        f'<img class="for-{name}" src="{draw.drawing_uri(still)}" alt="{escape(still.description, quote=True)}">'
        for name, still in (("light", light), ("dark", dark))
    )
    return f'<div class="chain">{images}</div>'


def _ring(mark: Mark, width: int, height: int) -> str:
    # A patch of few pixels would be a speck: the ring is at least a fiftieth of the picture.
    radius = max(0.62 * mark.side, 0.02 * max(width, height))
    y, x = (position + mark.side / 2 for position in mark.corner)
    size = 0.05 * max(width, height)
    at_right = x + radius + 2 * size < width and not mark.letter_left
    text_x = x + radius + 0.3 * size if at_right else x - radius - 0.3 * size
    text_y = min(max(y, size / 2), height - size / 2)
    anchor = "start" if at_right else "end"
    circle = f'cx="{x:g}" cy="{y:g}" r="{radius:.4g}"'
    return (
        f'<circle class="halo" {circle}/><circle class="ring" {circle}/>'
        f'<text x="{text_x:.4g}" y="{text_y:.4g}" font-size="{size:.4g}" text-anchor="{anchor}">{mark.letter}</text>'
    )


def legend(limit: float) -> str:
    """The colours of a signed picture with the values at their ends."""
    end = digits(limit)
    return (
        f'<div class="legend"><span>−{end}</span><i style="background:linear-gradient(90deg,{_gradient()})"></i>'
        f"<span>+{end}</span></div>"
    )


def _gradient() -> str:
    return ",".join(draw.hex_colour(stop) for stop in draw.SIGNED_STOPS)


def table(head: Sequence[str], lines: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table of text."""
    header = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in lines)
    return (
        f'<div class="table"><table class="{kind}"><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def code(source: str) -> str:
    """Python lines, coloured; the text within is `source`, character by character."""
    lines = source.splitlines(keepends=True)
    parts: list[str] = []
    line, column = 1, 0

    def copy_until(end_line: int, end_column: int) -> str:
        nonlocal line, column
        text = ""
        while line < end_line:
            text += lines[line - 1][column:]
            line, column = line + 1, 0
        text += lines[line - 1][column:end_column] if line <= len(lines) else ""
        column = end_column
        return escape(text, quote=False)

    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        parts.append(copy_until(*token.start))
        text, kind = copy_until(*token.end), _token_class(token)
        parts.append(f'<span class="{kind}">{text}</span>' if kind else text)
    return f"<pre><code>{''.join(parts)}</code></pre>"


def _token_class(token: tokenize.TokenInfo) -> str:
    if token.type == tokenize.NAME:
        return "k" if keyword.iskeyword(token.string) else ""
    return {tokenize.COMMENT: "c", tokenize.STRING: "s", tokenize.NUMBER: "n"}.get(token.type, "")
