"""Make docs/gallery.md and its pictures: `python docs/make_gallery.py`. Every call shown is the call that was made."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PREPARE = """\
import numpy as np
import starconv as sc
from starconv import view
from starconv.data.images import astronaut, to_grey
from starconv.data.kernels import named_kernel
from starconv.data.synthetic import shapes_picture

photo = to_grey(astronaut())[::2, ::2] / 255
"""
LENET = "conv 6x5x5 padding=2; pool 2x2; conv 16x5x5; pool 2x2; dense 120; dense 84; dense 10"


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture of the gallery: its file, what it shows, and the call, an expression that gives a drawing."""

    file: str
    title: str
    text: str
    call: str
    command: str = ""


ENTRIES = (
    Entry(
        "slide.gif",
        "The kernel slides over the input",
        "Any size, stride, padding per side, dilation, one axis or two, transposed; saved as `.html` it can be stepped "
        "and dragged.",
        "view.slide((5, 5), (3, 3), stride=2, padding=1)",
        "starconv slide --input 5x5 --kernel 3x3 --stride 2 --padding 1 -o slide.gif",
    ),
    Entry(
        "channels.png",
        "The channels add up",
        "Per input channel a 2-D convolution, their sum, and the bias.",
        "view.channels((3, 5, 5), (2, 3, 3, 3), [1, -2], padding=1)",
        'starconv channels --input 3x5x5 --kernel 2x3x3x3 --bias "1 -2" --padding 1 -o channels.png',
    ),
    Entry(
        "layer.png",
        "The shapes of a layer",
        "Input, kernels and output as boxes.",
        'view.shapes((3, 224, 224), "conv 64x7x7 stride=2 padding=3")',
        'starconv shapes --input 3x224x224 -l "conv 64x7x7 stride=2 padding=3" -o layer.png',
    ),
    Entry(
        "network.png",
        "The shapes of a network",
        "LeNet-5 as a chain.",
        f'view.shapes((1, 28, 28), "{LENET}")',
        f'starconv shapes --input 1x28x28 -l "{LENET}" -o network.png',
    ),
    Entry(
        "template.png",
        "A kernel is a template",
        "Which patches it matches best and worst.",
        'view.template(photo, named_kernel("horizontal-edges"))',
        "starconv template --input photo.png --kernel horizontal-edges -o template.png",
    ),
    Entry(
        "filters.png",
        "Kernels as a grid",
        "Zero is in the middle of the colours.",
        'view.filters(np.stack([[named_kernel(name)] for name in ("sobel-x", "sobel-y", "laplacian", "emboss")]))',
    ),
    Entry(
        "feature_maps.png",
        "What each kernel found",
        "A mapping of layer names to arrays works as well.",
        "view.feature_maps(sc.conv2d(photo[None], np.stack([[named_kernel(name)] for name in "
        '("sobel-x", "sobel-y", "laplacian", "emboss")]), padding=1))',
    ),
    Entry(
        "matrix.png",
        "A convolution is a matrix",
        "Toeplitz blocks, coloured by kernel entry, and the transpose that takes the output back.",
        "view.matrix((7, 7), (3, 3))",
        "starconv matrix --input 7x7 --kernel 3x3 -o matrix.png",
    ),
    Entry(
        "gradient.png",
        "The gradient of one weight",
        "Which input elements and which output elements meet in it.",
        "view.gradient((6, 6), (3, 3), tap=(0, 1))",
        "starconv gradient --input 6x6 --kernel 3x3 --tap 0x1 -o gradient.png",
    ),
    Entry(
        "field.png",
        "The receptive field",
        "By the geometry, and measured with the gradient of an impulse; pooling, skips and transposed layers count.",
        'view.receptive_field("conv 64x7x7 stride=2 padding=3; pool 3x3 stride=2 padding=1; '
        'skip(conv 64x3x3 padding=1; conv 64x3x3 padding=1)", photo)',
        'starconv field --input photo.png -l "conv 64x7x7 stride=2 padding=3" -l "pool 3x3 stride=2 padding=1" '
        '-l "skip(conv 64x3x3 padding=1; conv 64x3x3 padding=1)" -o field.png',
    ),
    Entry(
        "equivariance.png",
        "Shift the input, and the output shifts along",
        "Except where the border is felt; a dense layer does not.",
        'view.equivariance(shapes_picture(24), named_kernel("horizontal-edges"), (3, 5), padding=1)',
        "starconv equivariance --input shapes.npy --kernel horizontal-edges --shift 3x5 --padding 1 -o shifted.png",
    ),
    Entry(
        "dark.png",
        "In the dark",
        "Every figure takes `theme`; here a strided convolution with groups of channels.",
        'view.channels((4, 6, 6), (2, 2, 3, 3), stride=2, padding=1, groups=2, theme="dark")',
        "starconv channels --input 4x6x6 --kernel 2x2x3x3 --stride 2 --padding 1 --groups 2 --theme dark -o dark.png",
    ),
)


def page() -> str:
    """The gallery in Markdown."""
    parts = [
        "# Gallery\n",
        "Made by `python docs/make_gallery.py`; every picture is made by the call below it, after\n",
        f"```python\n{PREPARE}```\n",
        "A drawing shows itself in a notebook and saves itself by the suffix: `.png`, `.svg`, `.pdf`, `.html`; an "
        "animation also `.gif` and `.mp4`. Its numbers are in `.data`.\n",
    ]
    for entry in ENTRIES:
        parts.append(f"## {entry.title}\n\n{entry.text}\n\n![{entry.title}](gallery/{entry.file})\n")
        parts.append(f'```python\n{entry.call}.save("{entry.file}")\n```\n')
        if entry.command:
            parts.append(f"```\n{entry.command}\n```\n")
    return "\n".join(parts)


def names() -> dict[str, object]:
    """The names that the calls use."""
    found: dict[str, object] = {}
    exec(PREPARE, found)
    return found


def main() -> None:
    """Write the pictures (or only those named on the command line) and the page."""
    wanted = set(sys.argv[1:])
    folder = HERE / "gallery"
    folder.mkdir(exist_ok=True)
    known = names()
    for entry in ENTRIES:
        if not wanted or entry.file in wanted:
            drawing = eval(entry.call, known)
            drawing.save(folder / entry.file, dpi=None if entry.file.endswith(".gif") else 80)
            size = (folder / entry.file).stat().st_size
            print(f"{entry.file:<20} {size / 1000:7.1f} kB")
    text = re.sub(r"\n{3,}", "\n\n", page())
    (HERE / "gallery.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
