"""The page: the sections one after the other in one HTML file that needs nothing else."""

import base64
from collections.abc import Sequence
from html import escape
from importlib import resources

from . import html
from .section import Section

__all__ = ["page"]


def page(sections: Sequence[tuple[Section, str]], picture_name: str, version: str) -> str:
    """The whole page, from the sections and the HTML of what each shows.

    A browser is told not to load anything from anywhere (Content-Security-Policy): style, script and pictures are in
    the page.
    """
    folder = resources.files(__package__)
    style = (folder / "style.css").read_text(encoding="utf-8")
    script = (folder / "script.js").read_text(encoding="utf-8")
    links = "".join(
        f'<a href="#{section.slug}" title="{escape(section.title)}">{number}</a>'
        for number, (section, _) in enumerate(sections)
        if number
    )
    contents = "".join(f'<li><a href="#{section.slug}">{escape(section.title)}</a></li>' for section, _ in sections[1:])
    first, *rest = sections
    body = _section(0, *first) + "".join(_section(number, *pair) for number, pair in enumerate(rest, 1))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" \
content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Convolution, on {escape(picture_name)}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<nav aria-label="Sections"><a class="home" href="#top">X ⋆ K</a><div class="sections">{links}</div>\
<button type="button" id="theme" aria-label="Switch between light and dark">◐</button></nav>
<main id="top">
<header>
<p class="kicker">A tour with starconv {escape(version)}</p>
<h1>Convolution, on a picture</h1>
<p class="lead">What a convolution computes, what it finds, how it becomes a layer and a matrix, and how it learns. \
Every number and every picture on this page was computed by the Python lines beside it, from \
<strong>{escape(picture_name)}</strong>.</p>
<ol class="contents">{contents}</ol>
</header>
{body}
<footer><p>The lines of all sections are one program: <a download="tour.py" href="{_download(sections)}">tour.py</a>. \
Change a kernel, run it, and see what happens.</p></footer>
</main>
<script>
{script}</script>
</body>
</html>
"""


def _section(number: int, section: Section, shown: str) -> str:
    heading = f'<span class="number">{number}</span> ' if number else ""
    return (
        f'<section id="{section.slug}"><h2>{heading}{escape(section.title)}</h2>{shown}'
        f'<details class="code" open><summary>The lines that made this section</summary>{html.code(section.code)}'
        "</details></section>\n"
    )


def _download(sections: Sequence[tuple[Section, str]]) -> str:
    program = "\n\n".join(f"# {section.title}\n{section.code}" for section, _ in sections)
    data = base64.b64encode(program.encode("utf-8", "backslashreplace")).decode("ascii")
    return f"data:text/x-python;charset=utf-8;base64,{data}"
