"""One section of the tour: a title, the Python lines that are shown and run, and what is drawn of their results."""

import linecache
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

__all__ = ["Names", "Numbers", "Section", "run"]

Names = dict[str, Any]
"""The variables of the tour's program: what the lines of this section and all before it have computed."""


Numbers = NDArray[Any]
"""An array of numbers of any dtype: what the sections draw."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page.

    The sections are one program in order: `code` may use what earlier sections computed, and runs as it is shown.
    `show` draws what it finds in the variables; it computes nothing that the page claims the code computed.
    """

    slug: str
    title: str
    code: str
    show: Callable[[Names], str]


def run(section: Section, names: Names) -> None:
    """Run the section's lines in `names`, exactly as the page shows them."""
    filename = f"<starconv tour: {section.slug}>"
    lines = section.code.splitlines(keepends=True)
    # So that a traceback, should there be one, shows the line it is about.
    linecache.cache[filename] = (len(section.code), None, lines, filename)
    exec(compile(section.code, filename, "exec"), names)
