"""Frames as moving pictures: GIF by Pillow, with a palette of its own, and MP4 by the ffmpeg program."""

import io
import itertools
import shutil
import subprocess
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..data.files import MissingPackageError, optional_import
from ..errors import StarconvError

__all__ = ["FfmpegError", "Frame", "Palette", "write_gif", "write_mp4"]

Frame = NDArray[np.uint8]
"""(height, width, 3)."""
CLEAR = 255
"""The see-through colour of a GIF, beside 255 others."""


class FfmpegError(StarconvError, RuntimeError):
    """ffmpeg is there but could not write the video."""


def write_gif(file: BinaryIO | io.BytesIO, images: Iterable[Frame], seconds: float, hold: float) -> None:
    """An endless GIF. All frames share the palette of the first and the last, which between them show every colour."""
    pillow = optional_import("PIL.Image", "Pillow", "writing GIF")
    frames = list(images)
    palette = Palette(pillow, [frames[number] for number in sorted({0, len(frames) // 2, len(frames) - 1})])
    indices = [palette.indices(frames[0])]
    for before, frame in itertools.pairwise(frames):
        # Only the rows that changed are looked up again.
        rows = np.flatnonzero((before != frame).any((1, 2)))
        indices.append(indices[-1].copy())
        if rows.size:
            indices[-1][rows[0] : rows[-1] + 1] = palette.indices(frame[rows[0] : rows[-1] + 1])
    # What stays as it was is see-through, which takes a quarter of the bytes.
    changes = [np.where(now == before, CLEAR, now) for before, now in itertools.pairwise(indices)]
    pictures = [pillow.fromarray(change.astype(np.uint8)) for change in (indices[0], *changes)]
    for picture in pictures:
        picture.putpalette(palette.colours.astype(np.uint8).tobytes() + b"\0\0\0")
    # GIF counts in hundredths of a second.
    durations = [max(round(seconds * 100), 2) * 10] * len(pictures)
    durations[-1] += round(hold * 100) * 10
    pictures[0].save(
        file,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=durations,
        loop=0,
        optimize=False,
        disposal=1,
        transparency=CLEAR,
    )


class Palette:
    """255 colours for all frames: what is frequent exactly as it is (backgrounds, cells), the rest by median cut."""

    def __init__(self, pillow: Any, frames: list[Frame]) -> None:
        sample = np.concatenate(frames)[::2]  # every second row has the colours of all
        few = pillow.fromarray(sample).quantize(191, method=pillow.Quantize.MEDIANCUT, dither=pillow.Dither.NONE)
        packed, counts = np.unique(sample.reshape(-1, 3) @ np.array([65536, 256, 1]), return_counts=True)
        frequent = packed[np.argsort(-counts, kind="stable")[:64]]
        exact = np.stack([frequent >> 16, frequent >> 8 & 255, frequent & 255], -1)
        rest = np.reshape(few.getpalette()[: 191 * 3], (-1, 3))
        self.colours = np.concatenate([exact, rest])
        # Which colour stands for each of 64^3 buckets of similar colours.
        self.table = np.full(64**3, -1, np.int16)
        for number in reversed(range(len(exact))):
            self.table[self._buckets(exact[number])] = number

    def indices(self, frame: Frame) -> NDArray[Any]:
        """The number of the colour of every pixel of `frame`."""
        buckets = self._buckets(frame)
        indices = self.table[buckets]
        if indices.min() < 0:
            new = np.unique(buckets[indices < 0])
            middles = np.stack([new >> 12, new >> 6 & 63, new & 63], -1) * 4 + 2
            for some in range(0, len(new), 4096):
                distance = ((middles[some : some + 4096, np.newaxis] - self.colours) ** 2).sum(-1)
                self.table[new[some : some + 4096]] = distance.argmin(1)
            indices = self.table[buckets]
        return indices

    @staticmethod
    def _buckets(colours: NDArray[Any]) -> NDArray[np.int32]:
        sixth = (colours >> 2).astype(np.int32)
        return (sixth[..., 0] << 12) | (sixth[..., 1] << 6) | sixth[..., 2]


def write_mp4(file: BinaryIO, images: Iterable[Frame], seconds: float, hold: float) -> None:
    """An MP4 by the ffmpeg program: written to the same temporary file, since it must be able to seek in it."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise MissingPackageError(
            "writing MP4 needs the ffmpeg program, which is not on the PATH; GIF and HTML need nothing"
        )
    # 25 pictures a second, each shown several times: players stumble over slower streams.
    rate = 25
    repeat, extra = max(round(seconds * rate), 1), round(hold * rate)
    command: list[str] | None = None
    process: subprocess.Popen[bytes] | None = None
    last: bytes = b""
    try:
        for image in images:
            if process is None:
                height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2  # yuv420p needs even sides
                command = [ffmpeg, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
                command += ["-s", f"{width}x{height}", "-r", str(rate), "-i", "-", "-an", "-pix_fmt", "yuv420p"]
                command += ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1", "-threads", "1"]
                command += ["-movflags", "+faststart", "-f", "mp4", file.name]
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
            assert process.stdin is not None
            last = image[:height, :width].tobytes()
            for _ in range(repeat):
                process.stdin.write(last)
        assert process is not None
        assert process.stdin is not None
        for _ in range(extra):
            process.stdin.write(last)
    except BrokenPipeError:
        pass  # ffmpeg gave up; it says why below
    except BaseException:
        if process is not None:
            process.kill()
            process.communicate()
        raise
    assert process is not None
    _, message = process.communicate()
    if process.returncode:
        raise FfmpegError(f"ffmpeg could not write {file.name}: {message.decode(errors='replace').strip()}")
