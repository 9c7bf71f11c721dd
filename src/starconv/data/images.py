"""Pictures in files: PNG, JPEG, TIFF and .npy into arrays and back, in the depth they have.

What is in a file is decided by how it begins, what a new file becomes by its suffix.
"""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentTypeError, ArgumentValueError
from . import codecs
from .depth import Pixels
from .files import FileContentError, MissingPackageError, replaced_when_complete
from .picture import Image

__all__ = ["Image", "astronaut", "format_for", "read_image", "to_grey", "write_image"]


class FileFormat(NamedTuple):
    """One kind of file: how it begins, which suffixes it has, what it can hold, and the functions that know it."""

    name: str
    signatures: tuple[bytes, ...]
    suffixes: tuple[str, ...]
    depths: tuple[str, ...]
    alpha: bool
    decode: Callable[[BinaryIO], Image]
    encode: Callable[[BinaryIO, Image], None]


FORMATS = (
    FileFormat("PNG", (b"\x89PNG\r\n\x1a\n",), (".png",), ("8", "16"), True, codecs.read_png, codecs.write_png),
    FileFormat("JPEG", (b"\xff\xd8\xff",), (".jpg", ".jpeg"), ("8",), False, codecs.read_jpeg, codecs.write_jpeg),
    FileFormat(
        "TIFF",
        (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        (".tif", ".tiff"),
        ("8", "16", "float"),
        True,
        codecs.read_tiff,
        codecs.write_tiff,
    ),
    FileFormat(".npy", (b"\x93NUMPY",), (".npy",), ("8", "16", "float"), True, codecs.read_npy, codecs.write_npy),
)
_NAMES = "PNG, JPEG, TIFF or .npy"
_SUFFIXES = ", ".join(suffix for known in FORMATS for suffix in known.suffixes)


def read_image(path: str | os.PathLike[str]) -> Image:
    """The picture in the file `path`.

    - The depth of the file is kept: uint8, uint16, float32 or float64 (float16 becomes float32, one bit becomes 8).
    - EXIF and TIFF orientation are applied: row 0 is the top as the picture is looked at.
    - Alpha is kept apart, in ``Image.alpha``; premultiplied colours are divided by it.
    - Palettes and CMYK become RGB (CMYK without its colour profile: the colours are near, not exact).
    - A .npy file holds (H, W), or (H, W, C) with C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.

    Raises:
        OSError: the file is missing or cannot be read.
        FileContentError: it is not a picture, damaged, of an unsupported kind, or too large (more pixels than
            ``2 * PIL.Image.MAX_IMAGE_PIXELS``: a file of a few bytes can claim to fill the memory).
        MissingPackageError: the optional packages for pictures are not installed.
    """
    path = Path(path)
    if path.is_dir():
        raise FileContentError(path, f"a picture ({_NAMES}), not a directory")
    if path.exists() and not path.is_file():
        raise FileContentError(path, f"a picture ({_NAMES}), not a device or a pipe")
    with open(path, "rb") as file:
        start = file.read(16)
        file.seek(0)
        for known in FORMATS:
            if start.startswith(known.signatures):
                break
        else:
            found = "it is empty" if not start else f"it begins with {start!r}"
            raise FileContentError(path, f"a picture ({_NAMES}); {found}")
        try:
            return known.decode(file)
        except (MissingPackageError, MemoryError):
            raise
        except codecs.Unsupported as problem:
            raise FileContentError(path, str(problem)) from None
        # Decoders meet damaged files with errors of every kind: OSError, SyntaxError, struct.error, IndexError …
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise FileContentError(path, f"a complete, undamaged {known.name} picture ({reason})") from error


def write_image(path: str | os.PathLike[str], image: Image | Pixels) -> None:
    """Write `image` to the file `path` in the format of its suffix, replacing an existing file only when complete.

    No value is changed on the way: a format that cannot hold the picture's depth or alpha is refused. (JPEG stores
    what it is given only nearly, at quality 95 without colour subsampling.) A colour profile is kept, other metadata
    is not.

    Args:
        path: a file name that ends with .png, .jpg, .jpeg, .tif, .tiff or .npy.
        image: an :class:`Image`, or an array (H, W) or (H, W, 3) of uint8, uint16, float32 or float64.

    Raises:
        ArgumentValueError, FileContentError: an unknown suffix, or a format that cannot hold this picture.
        OSError: the file cannot be written. MissingPackageError: the optional packages are not installed.
    """
    if not isinstance(image, Image):
        image = Image(np.asarray(image))
    known = format_for(path)
    if image.depth not in known.depths:
        held = " or ".join(known.depths)
        raise FileContentError(path, f"{held}-bit values, which {known.name} can hold, not {image.array.dtype}")
    if image.alpha is not None and not known.alpha:
        raise FileContentError(path, f"a picture without alpha, which {known.name} cannot hold")
    with replaced_when_complete(path) as file:
        known.encode(file, image)


def format_for(path: str | os.PathLike[str]) -> FileFormat:
    """The format that a new file `path` gets by its suffix.

    Raises:
        FileContentError: no format has this suffix.
    """
    suffix = Path(path).suffix.lower()
    for known in FORMATS:
        if suffix in known.suffixes:
            return known
    raise FileContentError(path, f"a name that ends with one of {_SUFFIXES}")


def to_grey(array: Pixels) -> NDArray[np.floating]:
    """Brightness of an RGB picture: 0.2126 R + 0.7152 G + 0.0722 B, unrounded, in the units of `array`.

    Source: Recommendation ITU-R BT.709-6, item 3.2. The weights are applied to the values as stored (gamma-encoded),
    as that recommendation does: this is luma, not linear luminance. sRGB pictures have the same primaries.

    Args:
        array: (H, W, 3), or (H, W), which is returned as it is.

    Returns:
        (H, W), float32 for float32 and float64 for every other dtype.

    >>> to_grey(np.array([[[255, 255, 255], [0, 255, 0]]], dtype=np.uint8)).round(6).tolist()
    [[255.0, 182.376]]
    """
    array = np.asarray(array)
    if array.dtype.kind not in "uif":
        raise ArgumentTypeError("array", array, "real numbers")
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] != 3):
        raise ArgumentValueError("array", array, "shape (H, W) or (H, W, 3)")
    result = np.float32 if array.dtype == np.float32 else np.float64
    if array.ndim == 2:
        return array.astype(result)
    grey: NDArray[np.floating] = array @ np.array([0.2126, 0.7152, 0.0722], dtype=result)
    return grey


def astronaut() -> NDArray[np.uint8]:
    """The picture of the astronaut Eileen Collins that comes with scikit-image (NASA, public domain).

    Returns:
        uint8 array (512, 512, 3).

    Raises:
        MissingPackageError: scikit-image is not installed.
    """
    # Found, not imported: the picture needs a hundredth of the time that scikit-image does.
    found = importlib.util.find_spec("skimage")
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder, "data", "astronaut.png")
        if path.is_file():
            return read_image(path).array
    raise MissingPackageError(
        'the astronaut picture comes with scikit-image, which is not installed: pip install "starconv[tour]"'
    )
