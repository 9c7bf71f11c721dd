"""Arrays as pictures: the two palettes of the tour, and images as data URIs.

Brightness is shown as grey from black (0) to white (1). Signed numbers have a diverging map whose middle is grey, with
lightness rising all the way: dark blue below zero, light yellow above. It stays readable with every kind of colour
vision and in a black-and-white print.
"""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.files import optional_import
from ..view.save import Still

__all__ = ["SIGNED_STOPS", "brightness", "data_uri", "drawing_uri", "hex_colour", "ink", "scale_limit", "signed"]

Colours = NDArray[np.uint8]

SIGNED_STOPS = ((0, 32, 92), (66, 83, 133), (128, 128, 128), (196, 182, 104), (255, 241, 160))
"""Colours from the most negative over zero to the most positive, equally far apart."""
JPEG_QUALITY = 86
SMALL = 96 * 96
"""Pixels up to which a picture is stored exactly, as PNG; beyond, JPEG is a tenth of the size and looks the same."""

DRAWING_DPI = 150
"""Pixels per inch of figures: 9.6 inches wide, shown at half of these pixels; fine screens see all."""


def brightness(values: ArrayLike) -> Colours:
    """Values from 0 (black) to 1 (white), (H, W) or (H, W, 3), as 8-bit colours (H, W, 3)."""
    array = np.asarray(values, dtype=np.float64)
    pixels = np.rint(255 * array.clip(0, 1)).astype(np.uint8)
    colours: Colours = np.repeat(pixels[..., np.newaxis], 3, axis=-1) if pixels.ndim == 2 else pixels
    return colours


def signed(values: ArrayLike, limit: float) -> Colours:
    """Values from -limit to limit, zero in the middle, as 8-bit colours with one more axis of 3; beyond, the end's."""
    array = np.asarray(values, dtype=np.float64)
    position = (array / limit).clip(-1, 1) if limit > 0 else np.zeros_like(array)
    places = np.linspace(-1, 1, len(SIGNED_STOPS))
    stops = np.array(SIGNED_STOPS, dtype=np.float64)
    channels = [np.interp(position, places, stops[:, channel]) for channel in range(3)]
    colours: Colours = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return colours


def scale_limit(values: ArrayLike, percent: float = 99.5) -> float:
    """Where the scale of a signed picture ends: `percent` of all values are within, the rest get the end's colour."""
    limit = float(np.percentile(np.abs(values), percent))
    return limit or float(np.max(np.abs(values))) or 1.0


def data_uri(pixels: Colours) -> str:
    """8-bit colours (H, W, 3) as an image within the page."""
    pillow: Any = optional_import("PIL.Image", "Pillow", "the tour", "tour")
    file = io.BytesIO()
    small = pixels.shape[0] * pixels.shape[1] <= SMALL
    picture = pillow.fromarray(np.ascontiguousarray(pixels))
    if small:
        picture.save(file, "PNG", optimize=True)
    else:
        picture.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def drawing_uri(still: Still) -> str:
    """A figure as an image within the page: PNG of 64 colours, a fifth of what its SVG with all glyphs would need."""
    pillow: Any = optional_import("PIL.Image", "Pillow", "the tour", "tour")
    still.figure.set_dpi(DRAWING_DPI)
    picture = pillow.open(io.BytesIO(still._repr_png_())).convert("RGB")
    file = io.BytesIO()
    picture.quantize(64, dither=pillow.Dither.NONE).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def hex_colour(colour: ArrayLike) -> str:
    """Three 8-bit numbers as CSS writes them: ``#80807f``."""
    return "#" + "".join(f"{int(part):02x}" for part in np.asarray(colour))


def ink(colour: ArrayLike) -> str:
    """Black or white, whichever has the higher contrast on `colour` (WCAG 2's relative luminance)."""
    linear = (np.asarray(colour) / 255.0) ** 2.2
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return "#000" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "#fff"
