"""Drawings as files and in notebooks: PNG, SVG, PDF, GIF, MP4 and self-contained HTML, chosen by the file's suffix.

A figure function returns a :class:`Still` or an :class:`Animation`. Both have ``save(path)`` and show themselves in a
notebook. Files are complete or not there at all, and the same drawing gives the same bytes (no dates, fixed ids).
"""

import base64
import contextlib
import html
import io
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..data.files import replaced_when_complete
from ..errors import ArgumentValueError, choices
from .encode import FfmpegError, Frame, write_gif, write_mp4
from .theme import matplotlib

__all__ = ["Animation", "FfmpegError", "Still", "page"]

STILL_SUFFIXES = (".png", ".svg", ".pdf", ".html")
MOVING_SUFFIXES = (".gif", ".mp4")
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": "starconv"},
    "svg": {"Date": None, "Creator": "starconv"},
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": "starconv", "Producer": "starconv"},
}
PROGRESS_FROM = 40
"""Frames from which writing shows a progress bar (on a terminal only)."""
_settings_lock = threading.Lock()


class Still:
    """A finished drawing: one matplotlib figure.

    Attributes:
        figure: the matplotlib Figure.
        description: what it shows, in one sentence (the HTML form's alternative text).
        data: what was drawn.
    """

    def __init__(self, figure: Any, description: str = "", data: Any = None) -> None:
        self.figure = figure
        self.description = description
        self.data = data

    def save(self, path: str | os.PathLike[str], *, dpi: float | None = None) -> Path:
        """Write PNG, SVG, PDF or HTML, by the suffix of `path`; `dpi` is that of PNG.

        Returns:
            The path written.

        Raises:
            ArgumentValueError: another suffix. OSError: it cannot be written.
        """
        suffix = _suffix(path, STILL_SUFFIXES)
        with replaced_when_complete(path) as file:
            if suffix == ".html":
                file.write(self.to_html().encode())
            else:
                _print(self.figure, file, suffix[1:], dpi)
        return Path(path)

    def to_html(self) -> str:
        """A self-contained HTML page with the drawing as SVG."""
        return page(_svg(self.figure), title=self.description, background=self.figure.get_facecolor())

    def to_svg(self) -> str:
        """The drawing as SVG."""
        return _svg(self.figure)

    def _repr_png_(self) -> bytes:
        return _png(self.figure)

    def _repr_html_(self) -> str:
        picture = base64.b64encode(_png(self.figure)).decode()
        alt = html.escape(self.description, quote=True)
        return f'<img alt="{alt}" style="max-width:100%" src="data:image/png;base64,{picture}">'


class Animation:
    """A drawing that changes: one matplotlib figure whose moving artists are drawn anew for every frame.

    Args:
        figure: the matplotlib Figure with everything that does not move.
        draw: ``draw(number)`` adds the artists of frame `number` to the figure's axes and returns them; they are
            removed again afterwards. The rest of the figure is drawn once.
        frames: how many there are.
        seconds: how long each frame is shown.
        hold: how much longer the last one is.
        player: makes the interactive HTML page; without it the HTML form shows the GIF.
        description: what it shows, in one sentence.
        data: what was drawn, such as a :class:`~starconv.view.trace.Trace`.
        poster: the frame that stands for all in a still format, by default the middle one.
    """

    def __init__(
        self,
        figure: Any,
        draw: Callable[[int], Sequence[Any]],
        frames: int,
        *,
        seconds: float = 0.8,
        hold: float = 1.5,
        player: Callable[[], str] | None = None,
        description: str = "",
        data: Any = None,
        poster: int | None = None,
    ) -> None:
        self.figure = figure
        self.frames = frames
        self.seconds = seconds
        self.hold = hold
        self.description = description
        self.data = data
        self.poster = frames // 2 if poster is None else poster
        self._draw = draw
        self._left: list[Any] = []
        self._player = player

    def __len__(self) -> int:
        return self.frames

    def still(self, frame: int | None = None) -> Still:
        """One frame as a :class:`Still`; it shares the figure, so use it before asking for the next."""
        number = self.poster if frame is None else range(self.frames)[frame]
        self._clear()
        self._left = list(self._draw(number))
        for artist in self._left:
            artist.set_zorder(artist.get_zorder() + 100)  # above all that does not move, as in `images`
        return Still(self.figure, self.description, self.data)

    def _clear(self) -> None:
        """Take away what the last still frame left on the figure."""
        while self._left:
            self._left.pop().remove()

    def images(self) -> Iterator[Frame]:
        """Every frame as pixels, (height, width, 3) uint8."""
        self._clear()
        canvas = self.figure.canvas
        canvas.draw()
        background = canvas.copy_from_bbox(self.figure.bbox)
        for number in range(self.frames):
            canvas.restore_region(background)
            artists = self._draw(number)
            for artist in sorted(artists, key=lambda one: one.get_zorder()):
                artist.axes.draw_artist(artist)
            yield np.array(canvas.buffer_rgba())[..., :3]
            for artist in artists:
                artist.remove()

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        frame: int | None = None,
        dpi: float | None = None,
        progress: bool | None = None,
    ) -> Path:
        """Write it by the suffix of `path`: GIF, MP4 (needs ffmpeg), HTML, or one frame as PNG, SVG or PDF.

        Args:
            path: where.
            frame: which frame, for the formats that hold one; by default the poster.
            dpi: pixels per inch, by default the figure's.
            progress: whether to show a progress bar; by default on a terminal and for many frames.

        Raises:
            ArgumentValueError: another suffix. OSError: it cannot be written. MissingPackageError: no ffmpeg for MP4.
        """
        suffix = _suffix(path, (*MOVING_SUFFIXES, *STILL_SUFFIXES))
        if suffix in (".png", ".svg", ".pdf"):
            return self.still(frame).save(path, dpi=dpi)
        if suffix == ".html":
            with replaced_when_complete(path) as file:
                file.write(self.to_html().encode())
            return Path(path)
        with _resolution(self.figure, dpi), replaced_when_complete(path) as file:
            images = _tracked(self.images(), self.frames, Path(path).name, progress)
            write = write_gif if suffix == ".gif" else write_mp4
            write(file, images, self.seconds, self.hold)
        return Path(path)

    def to_html(self) -> str:
        """A self-contained page: the player, or the GIF in a page."""
        if self._player is not None:
            return self._player()
        return page(self._gif_tag(), title=self.description, background=self.figure.get_facecolor())

    def _gif_tag(self) -> str:
        file = io.BytesIO()
        write_gif(file, self.images(), self.seconds, self.hold)
        alt = html.escape(self.description, quote=True)
        picture = base64.b64encode(file.getvalue()).decode()
        return f'<img alt="{alt}" style="max-width:100%" src="data:image/gif;base64,{picture}">'

    def _repr_png_(self) -> bytes:
        return _png(self.still().figure)

    def _repr_html_(self) -> str:
        if self._player is None:
            return self._gif_tag()
        try:
            source = html.escape(self._player(), quote=True)
        except ArgumentValueError:  # too many numbers for a page; the frames can be seen all the same
            return self._gif_tag()
        return (
            f'<iframe title="{html.escape(self.description, quote=True)}" sandbox="allow-scripts" srcdoc="{source}" '
            'style="width:100%;height:640px;border:0"></iframe>'
        )


def page(body: str, *, title: str, background: Any) -> str:
    """A self-contained HTML page round `body`, which may not ask for anything from elsewhere."""
    colour = matplotlib("colors").to_hex(background)
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n"
        f"<style>body{{margin:0;background:{colour};display:grid;place-items:center;min-height:100vh}}"
        "svg,img{max-width:100%;height:auto}</style>\n"
        f"{body}\n</html>\n"
    )


def _suffix(path: str | os.PathLike[str], known: tuple[str, ...]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in known:
        raise ArgumentValueError("path", os.fspath(path), f"a name that ends with {choices(known)}")
    return suffix


def _print(figure: Any, file: BinaryIO | io.BytesIO, format: str, dpi: float | None = None) -> None:
    """The figure in `format`: the same bytes for the same drawing, which is why ids are salted and dates left out."""
    # matplotlib takes these from its global settings only; the lock keeps two threads from restoring each other's.
    with (
        _settings_lock,
        matplotlib().rc_context({"svg.hashsalt": "starconv", "svg.fonttype": "path", "pdf.fonttype": 42}),
    ):
        figure.savefig(
            file,
            format=format,
            dpi=figure.dpi if dpi is None else dpi,
            facecolor=figure.get_facecolor(),
            metadata=METADATA[format],
        )


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    _print(figure, file, "png")
    return file.getvalue()


def _svg(figure: Any) -> str:
    file = io.BytesIO()
    _print(figure, file, "svg")
    text = file.getvalue().decode()
    return text[text.index("<svg") :]


@contextlib.contextmanager
def _resolution(figure: Any, dpi: float | None) -> Iterator[None]:
    before = figure.dpi
    if dpi is not None:
        figure.set_dpi(dpi)
    try:
        yield
    finally:
        figure.set_dpi(before)


def _tracked(images: Iterator[Frame], count: int, name: str, progress: bool | None) -> Iterable[Frame]:
    """`images`, with a bar on standard error while they are made."""
    wanted = count >= PROGRESS_FROM and sys.stderr.isatty() if progress is None else progress
    if not wanted:
        return images
    from rich.console import Console
    from rich.progress import track

    return track(images, description=name, total=count, console=Console(stderr=True), transient=True)
