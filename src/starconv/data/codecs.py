"""The file formats, one reader and one writer each: bytes of an open file to an :class:`Image` and back.

Pillow knows 8-bit pictures in every dialect but cuts 16-bit colour down to 8 bits, so that 16-bit colour PNG is put
together from its two bytes here and written by pypng, and TIFF beyond 8 bits is tifffile's. All three are imported
only when a picture is read or written.
"""

import contextlib
import io
import logging
import warnings
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from .depth import DEPTHS, Pixels
from .files import optional_import
from .picture import Image

__all__ = [
    "Unsupported",
    "read_jpeg",
    "read_npy",
    "read_png",
    "read_tiff",
    "write_jpeg",
    "write_npy",
    "write_png",
    "write_tiff",
]

ORIENTATION_TAG = 0x0112


class Unsupported(Exception):
    """A file that is in order, but of a kind that is not read; its text is what was expected instead."""


def read_png(file: BinaryIO) -> Image:
    """PNG with 1 to 16 bits: grey, palette and RGB, with alpha or a transparent colour, with any interlacing."""
    head = file.read(26)
    file.seek(0)
    bits, colour = head[24:26]
    with _opened(file, "PNG") as picture:
        picture.verify()  # the checksums of all chunks, at which Pillow does not look when it decodes
    file.seek(0)
    if bits < 16 or colour == 0:
        with _opened(file, "PNG") as picture:
            return _from_pillow(picture)
    with _opened(file, "PNG") as picture:
        orientation, profile = _orientation(picture), picture.info.get("icc_profile")
        transparent = picture.info.get("transparency")
        if colour != 4:
            high = np.asarray(picture).astype(np.uint16)
    if colour == 4:  # grey and alpha: Pillow has no way to its low bytes
        array = _read_with_pypng(file)
        return _assembled(array, orientation, "LA;16", profile)
    # The same bytes read as if the low byte came first give the low bytes, at the speed of compiled code.
    file.seek(0)
    with _opened(file, "PNG") as picture:
        picture.tile = [tile._replace(args=tile.args.replace("16B", "16L")) for tile in picture.tile]
        array = high << 8 | np.asarray(picture)
    if transparent is not None and array.shape[2] == 3:
        alpha = np.where((array == np.asarray(transparent, dtype=np.uint16)).all(axis=2), 0, 65535)
        array = np.dstack([array, alpha.astype(np.uint16)])
    return _assembled(array, orientation, "RGBA;16" if colour == 6 else "RGB;16", profile)


def read_jpeg(file: BinaryIO) -> Image:
    """JPEG: grey, RGB and CMYK; of files with several pictures (as telephones write them) the first."""
    with _opened(file, "JPEG", "MPO") as picture:
        return _from_pillow(picture)


def read_tiff(file: BinaryIO) -> Image:
    """TIFF with one page: 1 to 8 bits of every kind, 16 bits and float in grey and RGB, with or without alpha."""
    tifffile = optional_import("tifffile", "tifffile", "reading TIFF")
    _quiet(tifffile)
    with tifffile.TiffFile(file) as container:
        pages = [page for page in container.pages if not page.is_reduced]
        if len(pages) != 1:
            raise Unsupported(f"one picture, found {len(pages)} pages; split the file first")
        page = pages[0]
        bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
        if bits > 8:
            return _from_tiff_page(page, tifffile)
    file.seek(0)
    with _opened(file, "TIFF") as picture:
        return _from_pillow(picture)


def read_npy(file: BinaryIO) -> Image:
    """A .npy file with an array (H, W) or (H, W, C); C = 2 and 4 have alpha last."""
    array = np.load(file, allow_pickle=False)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)) or array.size == 0:
        raise Unsupported(f"an array of shape (H, W) or (H, W, C) with C from 1 to 4, found shape {array.shape}")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    return _assembled(_supported(array.astype(array.dtype.newbyteorder("="), copy=False)), 1, str(array.dtype), None)


def write_png(file: BinaryIO, image: Image) -> None:
    """PNG with 8 or 16 bits."""
    if image.depth == "8" or (image.channels == 1 and image.alpha is None):
        _save_with_pillow(file, image, "PNG")
        return
    png = optional_import("png", "pypng", "writing 16-bit colour PNG")
    samples = _with_alpha(image)
    height, width = samples.shape[:2]
    encoded = io.BytesIO()
    writer = png.Writer(
        width, height, greyscale=image.channels == 1, alpha=image.alpha is not None, bitdepth=16, compression=6
    )
    writer.write_packed(encoded, (row.tobytes() for row in samples.reshape(height, -1).astype(">u2")))
    content = encoded.getvalue()
    # pypng writes no colour profile. Its chunk belongs right after the header: 8 bytes signature, 25 bytes IHDR.
    file.write(content[:33])
    if profile := _profile(image):
        png.write_chunk(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(profile))
    file.write(content[33:])


def write_jpeg(file: BinaryIO, image: Image) -> None:
    """JPEG at quality 95, every pixel with its own colour."""
    _save_with_pillow(file, image, "JPEG", quality=95, subsampling=0)


def write_tiff(file: BinaryIO, image: Image) -> None:
    """TIFF with 8 or 16 bits or float, compressed without loss (deflate)."""
    tifffile = optional_import("tifffile", "tifffile", "writing TIFF")
    tifffile.imwrite(
        file,
        _with_alpha(image),
        photometric="minisblack" if image.channels == 1 else "rgb",
        planarconfig="contig" if image.channels > 1 or image.alpha is not None else None,
        extrasamples=["unassalpha"] if image.alpha is not None else None,
        compression="zlib",
        iccprofile=_profile(image),
        metadata=None,
    )


def write_npy(file: BinaryIO, image: Image) -> None:
    """A .npy file (format 1.0): (H, W), or (H, W, C) with alpha, if there is any, last."""
    np.save(file, _with_alpha(image), allow_pickle=False)


@contextlib.contextmanager
def _opened(file: BinaryIO, *formats: str) -> Iterator[Any]:
    """The file as a Pillow image, not yet decoded, of one of `formats` and of a size that is not an attack."""
    pillow = optional_import("PIL.Image", "Pillow", "reading pictures")
    with warnings.catch_warnings():
        # Pillow warns of pictures above a limit and of odd metadata; only its error, at twice the limit, counts here.
        warnings.filterwarnings("ignore", category=pillow.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        try:
            with pillow.open(file, formats=formats) as picture:
                yield picture
        except pillow.DecompressionBombError:
            limit = 2 * pillow.MAX_IMAGE_PIXELS
            raise Unsupported(f"at most {limit} pixels; larger pictures can come as .npy") from None
        except pillow.UnidentifiedImageError:
            raise OSError("its header cannot be read") from None


def _from_pillow(picture: Any) -> Image:
    mode = picture.mode
    # A TIFF is turned upright by Pillow itself when it is decoded.
    orientation = 1 if picture.format == "TIFF" else _orientation(picture)
    picture.load()
    # The profile of a CMYK picture says nothing about the RGB that it becomes.
    profile = picture.info.get("icc_profile") if mode not in ("CMYK", "LAB", "YCbCr") else None
    if mode.startswith("I;16"):
        array = np.asarray(picture).astype(np.uint16)
        if (transparent := picture.info.get("transparency")) is not None:
            alpha = np.where(array == transparent, np.uint16(0), np.uint16(65535))
            array = np.dstack([array, alpha])
        return _assembled(array, orientation, mode, profile)
    transparent = "transparency" in picture.info
    if mode in ("1", "L", "LA", "La"):
        wanted = "LA" if transparent or mode in ("LA", "La") else "L"
    elif mode in ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB"):
        wanted = "RGBA" if transparent or mode in ("PA", "RGBA", "RGBa") else "RGB"
    else:
        raise Unsupported(f"grey, palette, RGB or CMYK of 8 or 16 bits or float, found {mode!r}")
    array = np.asarray(picture if wanted == mode else picture.convert(wanted))
    return _assembled(array, orientation, mode, profile)


def _from_tiff_page(page: Any, tifffile: Any) -> Image:
    pillow = optional_import("PIL.Image", "Pillow", "reading pictures")
    limit = pillow.MAX_IMAGE_PIXELS and 2 * pillow.MAX_IMAGE_PIXELS
    if limit and page.imagelength * page.imagewidth > limit:
        raise Unsupported(f"at most {limit} pixels; larger pictures can come as .npy")
    photometric = tifffile.PHOTOMETRIC(page.photometric)
    known = {tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB}
    if photometric not in known or page.samplesperpixel > 4 or page.imagedepth != 1:
        raise Unsupported(
            f"grey or RGB with or without alpha beyond 8 bits, found {photometric.name} "
            f"with {page.samplesperpixel} samples per pixel"
        )
    if page.dtype is None:
        raise Unsupported("uint8, uint16 or float values")
    _supported(np.empty(0, dtype=page.dtype))
    # A strip that the file ends before would come out as zeros, without a word.
    size = page.parent.filehandle.size
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if offset + count > size or (count == 0 and not page.is_memmappable):
            raise OSError("the file ends before the picture does")
    try:
        array = page.asarray()
    except ValueError as error:
        if "imagecodecs" in str(error):
            name = getattr(page.compression, "name", page.compression)
            raise Unsupported(f"{name} compression to be readable, for which: pip install imagecodecs") from None
        raise
    if page.axes.startswith("S"):  # one plane after the other
        array = np.moveaxis(array, 0, -1)
    array = _supported(array)
    if photometric == tifffile.PHOTOMETRIC.MINISWHITE and array.dtype.kind == "u":
        array = np.iinfo(array.dtype).max - array
    if tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples and array.shape[-1] in (2, 4):
        array = _unpremultiplied(array)
    orientation = page.tags.get(ORIENTATION_TAG)
    profile = page.tags.get("InterColorProfile")
    mode = f"{photometric.name};{page.bitspersample}"
    return _assembled(array, orientation.value if orientation else 1, mode, profile.value if profile else None)


def _unpremultiplied(array: Pixels) -> Pixels:
    colours, alpha = array[..., :-1].astype(np.float64), array[..., -1:].astype(np.float64)
    scale = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1.0
    colours = np.divide(colours * scale, alpha, out=np.zeros_like(colours), where=alpha != 0)
    if array.dtype.kind == "u":
        colours = np.rint(colours).clip(0, scale)
    return np.concatenate([colours.astype(array.dtype), array[..., -1:]], axis=-1)


def _read_with_pypng(file: BinaryIO) -> Pixels:
    png = optional_import("png", "pypng", "reading 16-bit grey PNG with alpha")
    file.seek(0)
    width, height, rows, info = png.Reader(file=file).read()
    samples = np.empty((height, width * info["planes"]), dtype=np.uint16)
    for index, row in enumerate(rows):
        samples[index] = row
    return samples.reshape(height, width, info["planes"])


def _orientation(picture: Any) -> int:
    try:
        return int(picture.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # damaged metadata must not lose the picture
        return 1


def _oriented(array: Pixels, orientation: int) -> Pixels:
    """`array` as it is looked at, by the eight values of the EXIF standard (JEITA CP-3451, section 4.6.4 A)."""
    if orientation >= 5:  # 5 to 8 are stored with rows and columns exchanged
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):  # and these with left and right exchanged
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):  # and these upside down
        array = array[::-1]
    return array


def _assembled(array: Pixels, orientation: int, mode: str, profile: bytes | None) -> Image:
    """An :class:`Image` of decoded samples (H, W) or (H, W, 1 to 4)."""
    array = _oriented(array, orientation if 1 <= orientation <= 8 else 1)
    alpha = None
    if array.ndim == 3 and array.shape[2] in (2, 4):
        array, alpha = array[..., :-1], np.ascontiguousarray(array[..., -1])
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return Image(np.ascontiguousarray(array), alpha, mode, profile)


def _supported(array: Pixels) -> Pixels:
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype not in (*DEPTHS.values(), np.float64):
        raise Unsupported(f"uint8, uint16 or float values, found {array.dtype}")
    return array


def _with_alpha(image: Image) -> Pixels:
    """The samples as files hold them: alpha, if there is any, as the last channel."""
    if image.alpha is None:
        return np.ascontiguousarray(image.array)
    return np.dstack([image.array, image.alpha])


def _profile(image: Image) -> bytes | None:
    """The colour profile, if it is one for the channels that the picture has now (bytes 16 to 20 of a profile)."""
    wanted = b"GRAY" if image.channels == 1 else b"RGB "
    return image.icc_profile if image.icc_profile is not None and image.icc_profile[16:20] == wanted else None


def _save_with_pillow(file: BinaryIO, image: Image, name: str, **options: Any) -> None:
    pillow = optional_import("PIL.Image", "Pillow", "writing pictures")
    pillow.fromarray(_with_alpha(image)).save(file, format=name, icc_profile=_profile(image), **options)


def _quiet(tifffile: Any) -> None:
    """What tifffile logs about odd files stays out of the user's terminal, unless the application asks for it."""
    logger = logging.getLogger(tifffile.__name__)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
