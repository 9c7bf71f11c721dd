"""Formulas as MathML, which browsers set themselves: a function per construction, strings in and strings out."""

from html import escape

__all__ = [
    "floor",
    "formula",
    "frac",
    "inline",
    "name",
    "number",
    "op",
    "row",
    "sub",
    "summation",
    "sup",
    "text",
    "words",
]


def name(value: str) -> str:
    """A variable: one letter is set in italics, more are upright."""
    return f"<mi>{escape(value)}</mi>"


def number(value: object) -> str:
    """A number, with a minus sign instead of a hyphen."""
    text = str(value)
    return f"<mrow><mo>−</mo><mn>{text[1:]}</mn></mrow>" if text[:1] in "-−" else f"<mn>{text}</mn>"


def op(value: str) -> str:
    """An operator."""
    return f"<mo>{escape(value)}</mo>"


def text(value: str) -> str:
    """Words within a formula."""
    return f"<mtext>{escape(value)}</mtext>"


def row(*parts: str) -> str:
    """Parts in a row, as one."""
    return f"<mrow>{''.join(parts)}</mrow>"


def sub(base: str, *indices: str) -> str:
    """`base` with its indices below, separated by commas."""
    return f"<msub>{base}{row(op(',').join(indices))}</msub>"


def sup(base: str, exponent: str) -> str:
    """`base` with an exponent."""
    return f"<msup>{base}{exponent}</msup>"


def frac(above: str, below: str) -> str:
    """A fraction."""
    return f"<mfrac>{row(above)}{row(below)}</mfrac>"


def floor(*parts: str) -> str:
    """The largest integer that is not above the parts."""
    return row(op("⌊"), *parts, op("⌋"))


def summation(below: str, above: str = "") -> str:
    """A sum sign with its limits."""
    # Large by its font size: without a mathematical font installed, browsers leave it small.
    sign = '<mo movablelimits="false" largeop="false" style="font-size:1.7em">∑</mo>'
    return (
        f"<munderover>{sign}{row(below)}{row(above)}</munderover>" if above else f"<munder>{sign}{row(below)}</munder>"
    )


def words(line: str) -> str:
    """Symbols separated by spaces: letters are variables, digits numbers, everything else operators."""
    parts = (name(word) if word.isalpha() else number(word) if word.isdigit() else op(word) for word in line.split())
    return "".join(parts)  # not a row of its own, at whose start a minus would be a sign


def formula(*parts: str) -> str:
    """A formula on its own line."""
    return f'<div class="formula"><math display="block">{row(*parts)}</math></div>'


def inline(*parts: str) -> str:
    """A formula within a line of text."""
    return f"<math>{row(*parts)}</math>"
