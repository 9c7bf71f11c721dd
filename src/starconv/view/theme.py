"""How every figure looks, light and dark: colours, text sizes, numbers as text, and the figure factory.

What is drawn with them (grids of cells, text, outlines) is in :mod:`starconv.view.canvas`. Only matplotlib's object
interface is used, never pyplot; matplotlib itself is imported when the first figure is made.

Colours are of Okabe and Ito's colour-blind-safe palette (M. Okabe, K. Ito, "Color Universal Design", 2008). What a
colour means never changes: input blue, kernel orange, output green, padding grey and hatched.
"""

import functools
import math
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..data.files import optional_import
from ..errors import ArgumentValueError, choices

__all__ = [
    "FONT",
    "THEMES",
    "Theme",
    "data_limits",
    "figure",
    "format_number",
    "matplotlib",
    "text_width",
    "theme_of",
    "tidy",
]

ThemeName = Literal["light", "dark"]

FONT = "DejaVu Sans"
"""Ships with matplotlib, so a figure looks the same on every machine."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours (#rrggbb) and sizes (points) of one look. Figures name the role, never the colour."""

    name: str
    background: str
    text: str
    muted: str
    """Labels of second rank, arrows, cell edges."""
    faint: str
    """Padding cells, empty cells, lines that only guide."""
    input: str
    kernel: str
    output: str
    accent: str
    """Products, and whatever is pointed at."""
    warn: str
    """The second thing pointed at."""
    input_fill: str
    kernel_fill: str
    output_fill: str
    accent_fill: str
    low: str
    """Negative end of signed data; its neutral centre is `neutral`, its positive end `high`."""
    neutral: str
    high: str
    title_size: float = 15.0
    label_size: float = 12.0
    number_size: float = 13.0
    """Largest size of a number in a cell."""
    small_size: float = 10.0
    """Smallest size of anything but numbers in cells: 10 pt on a 9.6 inch figure is 14 pt on a 13.3 inch slide."""
    colour_cycle: tuple[str, ...] = field(
        default=("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
    )

    @property
    def signed(self) -> Any:
        """Colormap for signed data: `low` to `neutral` (zero) to `high`."""
        return _colormap(f"starconv-signed-{self.name}", (self.low, self.neutral, self.high))

    @property
    def grey(self) -> Any:
        """Colormap for pictures: black to white, the same in both themes."""
        return _colormap("starconv-grey", ("#000000", "#ffffff"))

    @property
    def sequential(self) -> Any:
        """Colormap for magnitudes: from the background to the input's blue."""
        return _colormap(f"starconv-sequential-{self.name}", (self.neutral, self.high))


THEMES: dict[str, Theme] = {
    "light": Theme(
        name="light",
        background="#ffffff",
        text="#1a1a1a",
        muted="#5f6670",
        faint="#c9ced6",
        input="#0072B2",
        kernel="#B96F00",
        output="#00795A",
        accent="#A8407B",
        warn="#D55E00",
        input_fill="#d8eaf6",
        kernel_fill="#fbe6bf",
        output_fill="#cdeee2",
        accent_fill="#f6dcea",
        low="#D55E00",
        neutral="#f7f7f7",
        high="#0072B2",
    ),
    "dark": Theme(
        name="dark",
        background="#14171c",
        text="#eceff3",
        muted="#a3abb6",
        faint="#4a515c",
        input="#56B4E9",
        kernel="#F0AE2E",
        output="#2FCB9C",
        accent="#E59BC4",
        warn="#FF8A4C",
        input_fill="#173a52",
        kernel_fill="#4d3a10",
        output_fill="#0f4636",
        accent_fill="#4d2a40",
        low="#FF8A4C",
        neutral="#23272e",
        high="#56B4E9",
    ),
}


def theme_of(theme: "Theme | str") -> Theme:
    """The theme of that name, or the theme itself.

    Raises:
        ArgumentValueError: no such theme.
    """
    if isinstance(theme, Theme):
        return theme
    if theme not in THEMES:
        raise ArgumentValueError("theme", theme, choices(THEMES) + ", or a starconv.view.theme.Theme")
    return THEMES[theme]


def matplotlib(submodule: str = "") -> ModuleType:
    """matplotlib or one of its modules, imported now.

    Raises:
        MissingPackageError: it is not installed; names the extra that installs it.
    """
    return optional_import(f"matplotlib.{submodule}" if submodule else "matplotlib", "matplotlib", "drawing")


def figure(theme: Theme | str, width: float = 9.6, height: float = 5.4, dpi: float = 100) -> Any:
    """An empty matplotlib Figure of `width` x `height` inches in the theme's background, with an Agg canvas."""
    look = theme_of(theme)
    made = matplotlib("figure").Figure((width, height), dpi=dpi, facecolor=look.background)
    matplotlib("backends.backend_agg").FigureCanvasAgg(made)
    return made


def format_number(value: float, characters: int = 5) -> str:
    """`value` in at most `characters` characters (at least 3), as exactly as they allow; the minus is a real one.

    >>> [format_number(v) for v in (3, -2.0, 1 / 3, -0.125, 123456, 1e-9, float("nan"))]
    ['3', '−2', '0.333', '−0.12', '1.2e5', '1e−9', 'nan']
    """
    number = float(value)
    if math.isnan(number):
        return "nan"
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    if number.is_integer() and len(str(int(number))) <= characters:
        return str(int(number)).replace("-", "−")
    sign = "-" if number < 0 else ""
    room = characters - len(sign)
    whole = len(str(int(abs(number))))
    if 10 ** -(room - 2) <= abs(number) and whole <= room:
        text = f"{number:.{max(room - whole - 1, 0)}f}"
        # Rounding may have made a digit more (9.99 -> 10.0), and zeros at the end say nothing.
        text = text.rstrip("0").rstrip(".") if "." in text else text
        if len(text) <= characters:
            return text.replace("-", "−")
    mantissa, exponent = f"{abs(number):.{max(room - 4, 0)}e}".split("e")
    short = f"{sign}{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"
    if len(short) > characters:
        mantissa, exponent = f"{abs(number):.0e}".split("e")
        short = f"{sign}{mantissa}e{int(exponent)}"
    if len(short) > characters:
        short = f"{sign}0" if int(exponent) < 0 else f"{sign}∞"  # no room at all: what it is near to
    return short.replace("-", "−")


def tidy(values: ArrayLike, largest: float | None = None) -> Any:
    """Fractions rounded to three digits of the `largest` magnitude (by default their own); integers as they are.

    >>> tidy([0.7071, -1.4142]).tolist(), tidy([127.5, 3.25]).tolist(), tidy([3, 4]).tolist()
    ([0.71, -1.41], [128.0, 3.0], [3, 4])
    """
    array = np.asarray(values)
    if fraction_free(array) and (largest is None or float(largest).is_integer()):
        return array
    reach = largest if largest else float(np.abs(array[np.isfinite(array)]).max(initial=0))
    return np.round(array, max(2 - math.floor(math.log10(reach)), 0)) if reach else array


def fraction_free(values: ArrayLike) -> bool:
    """Whether every finite value is an integer, so that numbers are shown without a point."""
    array = np.asarray(values)
    return bool(array.dtype.kind in "biu" or np.all(np.mod(array[np.isfinite(array)], 1) == 0))


@functools.cache
def _colormap(name: str, colours: tuple[str, ...]) -> Any:
    return matplotlib("colors").LinearSegmentedColormap.from_list(name, list(colours))


@functools.lru_cache(maxsize=4096)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width in inches of `text` set at `size` points (one line; of several the widest)."""
    font = matplotlib("font_manager").FontProperties(family=FONT, size=size, weight=weight)
    measure = matplotlib("textpath").text_to_path.get_text_width_height_descent
    return max(float(measure(line, font, False)[0]) for line in text.split("\n")) / 72


def data_limits(values: ArrayLike, *, signed: bool = False) -> tuple[float, float]:
    """Smallest and largest finite value; with `signed`, the same distance on both sides of zero."""
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    if not array.size:
        return 0.0, 1.0
    if signed:
        reach = float(np.abs(array).max()) or 1.0
        return -reach, reach
    return float(array.min()), float(array.max())
