"""The tour: one HTML page that goes through the mathematics of convolution on the user's own picture.

A section is a file in ``sections``: Python lines that are shown on the page and run as they are shown, and a function
that draws what they computed. ``html``, ``mathml`` and ``draw`` have the pieces, ``page`` puts the sections together.
"""

import os
from collections.abc import Callable
from pathlib import Path

from .. import __version__
from ..data.files import FileContentError, optional_import, replaced_when_complete
from .opening import opening
from .page import page
from .section import Names, Section, run
from .sections import SECTIONS

__all__ = ["SECTIONS", "Section", "opening", "write_tour"]


def write_tour(
    directory: str | os.PathLike[str],
    picture: str | os.PathLike[str] | None = None,
    *,
    on_section: Callable[[int, int, str], None] = lambda done, total, title: None,
) -> Path:
    """Write the tour of `picture` (a file; default the astronaut) to ``directory/index.html``.

    Args:
        directory: made if it is not there. An ``index.html`` in it is replaced when the new one is complete.
        picture: PNG, JPEG, TIFF or .npy, grey or in colour, of at least 5 x 5 pixels.
        on_section: called before each section with the number of sections done, their total, and its title.

    Returns:
        The path of the page.

    Raises:
        OSError: the picture cannot be read or the directory cannot be written.
        FileContentError: the picture is not one, or too small; or `directory` is a file.
        MissingPackageError: the optional packages for pictures are not installed.
    """
    optional_import("PIL.Image", "Pillow", "the tour", "tour")
    directory = Path(directory)
    sections = (opening(picture), *SECTIONS)
    if directory.exists() and not directory.is_dir():
        raise FileContentError(directory, "a directory for the tour; this is a file")
    names: Names = {}
    shown = []
    for done, section in enumerate(sections):
        on_section(done, len(sections), section.title)
        run(section, names)
        shown.append((section, section.show(names)))
    on_section(len(sections), len(sections), "the page")
    title = "the astronaut" if picture is None else Path(picture).name
    # A file name may hold bytes that are no text; they are written as escapes.
    text = page(shown, title, __version__).encode("utf-8", "backslashreplace")
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / "index.html"
    with replaced_when_complete(target) as file:
        file.write(text)
    return target
