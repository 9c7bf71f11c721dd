"""Files are complete or absent, the same for the same drawing, and ask for nothing from elsewhere."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from starconv.data.files import MissingPackageError
from starconv.errors import ArgumentValueError
from starconv.view import slide
from starconv.view.canvas import Canvas
from starconv.view.encode import Palette
from starconv.view.save import Animation, FfmpegError, Still

BEGINNINGS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF", ".gif": b"GIF89a", ".html": b"<!doctype html>"}


def still():
    canvas = Canvas(width=3, height=2)
    canvas.grid([[1, 2], [3, 4]], left=0.5, top=0.5, cell=0.4)
    return Still(canvas.figure, "four & numbers")


def blinking(frames=3, player=None):
    canvas = Canvas(width=2, height=1)
    canvas.text(1, 0.2, "still")
    return Animation(
        canvas.figure,
        lambda number: [canvas.outline((0.1 + 0.5 * number, 0.4, 0.4, 0.4), fill="#0072B2")],
        frames,
        seconds=0.2,
        hold=1.0,
        description="a square that moves",
        player=player,
    )


@pytest.mark.parametrize("suffix", BEGINNINGS)
def test_an_animation_in_every_format_is_what_its_suffix_says(tmp_path, suffix):
    path = slide((3, 3), (2, 2)).save(tmp_path / f"picture{suffix.upper()}")
    assert path.read_bytes().startswith(BEGINNINGS[suffix])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", BEGINNINGS)
def test_the_same_drawing_gives_the_same_bytes(tmp_path, suffix):
    one, other = (slide((4, 5), (2, 2), padding=1).save(tmp_path / f"{n}{suffix}").read_bytes() for n in range(2))
    assert one == other


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".html"])
def test_a_still_in_every_format(tmp_path, suffix):
    assert still().save(tmp_path / f"a{suffix}").read_bytes().startswith(BEGINNINGS[suffix])


@pytest.mark.parametrize(("make", "suffix"), [(still, ".gif"), (still, ".bmp"), (blinking, ".webp"), (blinking, "")])
def test_another_suffix_is_refused_before_anything_is_written(tmp_path, make, suffix):
    with pytest.raises(ArgumentValueError, match="a name that ends with"):
        make().save(tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_drawing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(b"old")
    animation = blinking()

    def fails(number):
        raise KeyboardInterrupt

    animation._draw = fails
    with pytest.raises(KeyboardInterrupt):
        animation.save(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_frames_are_what_a_full_drawing_of_them_is():
    """Only the moving artists are drawn anew; the result must be the same as drawing everything."""
    animation = slide((4, 4), (3, 3), padding=1)
    for number, image in list(enumerate(animation.images()))[::5]:
        whole = np.asarray(Image.open(io.BytesIO(animation.still(number)._repr_png_())).convert("RGB")).astype(int)
        assert np.abs(whole - image).max() <= 2
    again = list(animation.images())  # nothing of a still frame is left over
    assert np.array_equal(again[0], next(animation.images()))


def test_a_gif_shows_every_frame_for_its_time_and_in_its_colours(tmp_path):
    animation = blinking()
    frames = list(animation.images())
    with Image.open(animation.save(tmp_path / "a.gif")) as gif:
        assert gif.n_frames == 3
        durations = []
        for number, frame in enumerate(frames):
            gif.seek(number)
            durations.append(gif.info["duration"])
            shown = np.asarray(gif.convert("RGB")).astype(int)
            assert np.abs(shown - frame).mean() < 0.5
            assert (shown[2, 2] == 255).all()  # the background exactly
        assert gif.info["loop"] == 0
    assert durations == [200, 200, 1200]


def test_dpi_is_pixels_per_inch_and_forgotten_afterwards(tmp_path):
    animation = blinking()
    for suffix in (".gif", ".png"):
        with Image.open(animation.save(tmp_path / f"a{suffix}", dpi=50)) as picture:
            assert picture.size == (100, 50)
    assert animation.figure.dpi == 100


def test_progress_on_request_only(tmp_path, capsys):
    blinking().save(tmp_path / "a.gif")
    assert capsys.readouterr().err == ""
    blinking().save(tmp_path / "a.gif", progress=True)
    assert capsys.readouterr().err != ""


def test_html_without_a_player_carries_its_pictures():
    text = blinking().to_html()
    assert "data:image/gif;base64," in text
    assert "default-src 'none'" in text
    assert 'alt="a square that moves"' in text
    assert "<svg" in still().to_html()
    assert "four &amp; numbers" in still().to_html()


def test_notebooks():
    assert still()._repr_png_().startswith(b"\x89PNG")
    assert "data:image/png" in still()._repr_html_()
    assert blinking()._repr_png_().startswith(b"\x89PNG")
    assert "data:image/gif" in blinking()._repr_html_()
    frame = blinking(player=lambda: '<p title="a">')._repr_html_()
    assert frame.startswith("<iframe")
    assert 'sandbox="allow-scripts"' in frame
    assert "&lt;p title=&quot;a&quot;&gt;" in frame


def test_mp4_needs_ffmpeg_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingPackageError, match="ffmpeg"):
        blinking().save(tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


FFMPEG = """#!/usr/bin/env python3
import sys
data = sys.stdin.buffer.read()
size = sys.argv[sys.argv.index("-s") + 1]
open(sys.argv[-1], "wb").write(f"{size} {len(data)}".encode())
"""


def program(tmp_path, monkeypatch, text):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ffmpeg").write_text(text)
    (folder / "ffmpeg").chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(folder / name))


def test_mp4_gives_ffmpeg_every_frame(tmp_path, monkeypatch):
    program(tmp_path, monkeypatch, FFMPEG)
    text = blinking().save(tmp_path / "a.mp4").read_text()
    # 0.2 s of 25 pictures a second for each of 3 frames, and the last one 1 s more
    assert text == f"200x100 {(3 * 5 + 25) * 200 * 100 * 3}"


def test_what_ffmpeg_complains_about_is_passed_on(tmp_path, monkeypatch):
    program(tmp_path, monkeypatch, "#!/bin/sh\necho no such encoder >&2\nexit 1\n")
    with pytest.raises(FfmpegError, match="no such encoder"):
        blinking().save(tmp_path / "a.mp4")
    assert not (tmp_path / "a.mp4").exists()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg here")
def test_mp4_with_the_real_ffmpeg(tmp_path):
    assert blinking().save(tmp_path / "a.mp4").read_bytes()[4:8] == b"ftyp"


def test_palettes_keep_frequent_colours_exactly():
    frame = np.full((40, 40, 3), 255, np.uint8)
    frame[:20] = (1, 2, 3)
    frame[0] = np.random.default_rng(0).integers(0, 256, (40, 3))
    palette = Palette(Image, [frame])
    shown = palette.colours[palette.indices(frame)]
    assert (shown[1:] == frame[1:]).all()
    assert np.abs(shown[0] - frame[0].astype(int)).max() < 60
