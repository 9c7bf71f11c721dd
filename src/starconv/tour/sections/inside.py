"""Inside a network: the feature maps of one that has learned the digits, and of the picture; the network as boxes."""

import base64
from html import escape

import numpy as np

from ...view.save import Still
from ..draw import brightness, scale_limit, signed
from ..html import digits, figure, legend, paragraphs, picture, shape
from ..section import Names, Numbers, Section

CODE = """\
from starconv.tour.digits_network import trained

learned = trained()                             # as `starconv train digits`
digit_net = sc.nets.from_nn(learned.network, (1, 8, 8))
test = learned.data.test                        # pictures it has not seen
digit, label = test.images[7], test.labels[7]
first = digit_net.layers["0"].kernels           # (16, 1, 3, 3)

# What every layer finds, after its ReLU: (channels, height, width).
maps = digit_net.feature_maps(digit, ["2", "5", "9"])
scores = digit_net(digit[np.newaxis])[0]
answer = scores.argmax()

chain = ("conv 16x3x3 padding=1; conv 32x3x3 padding=1; pool 2;"
         "conv 64x3x3 padding=1; pool 2; dense 10")
boxes = [sc.view.shapes(digit.shape, chain, theme=theme)
         for theme in ("light", "dark")]

# The picture. A ResNet-18 that knows photographs, if its weights are here;
# if not, the kernels from the digits: they fit a picture of any size.
pretrained = sc.nets.at_hand("resnet18", "tv_in1k")
if pretrained is not None:
    photo_net = sc.nets.resnet18(pretrained)
    photo = sc.nets.preprocess(np.moveaxis(rgb, 0, -1))
    seen = photo_net.feature_maps(photo, "conv1")
else:
    seen = sc.conv2d(grey[np.newaxis], first, stride=2, padding=1)
"""
SHOWN = 16
"""Channels of a layer that are shown."""
DEPTHS = {"2": "first", "5": "second", "9": "third"}


def show(names: Names) -> str:
    """The digit and what the layers make of it, the chain of boxes, then the picture."""
    digit, first, maps = names["digit"], names["first"], names["maps"]
    kernel_limit = float(abs(first).max())
    kernels = _tiles(
        [signed(kernel[0], kernel_limit) for kernel in first],
        "Kernel",
        footer=legend(kernel_limit),
    )
    found = "".join(
        figure(
            _tiles(
                [brightness(tile / scale_limit(layer)) for tile in layer[:SHOWN]], f"The {DEPTHS[name]} layer’s map"
            ),
            f"After the {DEPTHS[name]} layer and its ReLU: {shape(layer)}"
            + (f", of which {SHOWN} are shown." if len(layer) > SHOWN else ".")
            + f" Black is zero, white {digits(scale_limit(layer))} and more.",
        )
        for name, layer in maps.items()
    )
    light, dark = names["boxes"]
    answer, sure = int(names["answer"]), _share(names["scores"])
    return (
        paragraphs(
            "A network is layers one after the other. Each output channel of a layer is a picture again, its "
            "<em>feature map</em>: light where the layer’s kernel found what it looks for. Nobody chose the kernels "
            f"below. {_learned(names)} Here is a digit that it has not seen, and the 16 kernels of its first layer:"
        )
        + figure(
            f'<div class="row">{picture(brightness(digit[0]), f"the input {shape(digit)}", alt="A digit", width=1)}'
            f"</div>{kernels}",
            "Kernels of 3 × 3, light where they are positive. Some are edge filters: light on one side, dark on the "
            "other.",
        )
        + paragraphs(
            "The first layer finds strokes and their borders, in different directions. Deeper layers see more of the "
            "digit at once and less of where things are exactly; their maps are smaller, and there are more of them."
        )
        + found
        + paragraphs(
            "The last layer, a dense one, turns the 64 maps that are left into ten scores. The highest is that of "
            f"{answer} (it is a {names['label']}), a share of {digits(100 * sure, 1)} % if scores are read as "
            "probabilities. Drawn as boxes, the way through the network looks like this:"
        )
        + figure(
            f'<div class="chain">{_drawing(light, "for-light")}{_drawing(dark, "for-dark")}</div>',
            "Height and width shrink, channels grow. Batch norm and ReLU, which change no sizes, are left out.",
        )
        + _picture(names)
    )


def _learned(names: Names) -> str:
    """How the network came to its kernels, in a sentence with its numbers."""
    history, data = names["learned"].history, names["learned"].data
    right = 100 * history.column("validation_accuracy")[-1]
    return (
        f"They were random, and {len(history)} rounds through {digits(len(data.train.images))} handwritten digits made "
        f"them what they are; the network now reads {digits(right, 1)} % of {len(data.test.images)} new digits right."
    )


def _picture(names: Names) -> str:
    seen: Numbers = names["seen"]
    tiles = _tiles(
        [signed(tile, scale_limit(tile)) for tile in seen[:SHOWN]], "Feature map of the picture", kind="large"
    )
    if names["pretrained"] is not None:
        text = (
            "And the picture? The weights of a ResNet-18 are on this machine: 18 layers, trained on 1.3 million "
            f"photographs. Its first layer has {len(seen)} kernels of 7 × 7 over red, green and blue, and steps by 2: "
            f"the 224 × 224 pixels of its input become maps of {shape(seen[0])}. Edges in all directions, colours, and "
            "fine stripes:"
        )
    else:
        text = (
            "And the picture? A convolution has no size of its own: the kernels that were learned from digits of 8 × 8 "
            f"pixels run over a picture of {shape(names['grey'])} as well, here with stride 2. They find its edges, "
            "since edges are what strokes are made of. (With the weights of a ResNet-18 that has learned from "
            "photographs on this machine, this section shows what that network finds: <code>starconv maps photo.jpg "
            "--model resnet18 --weights tv_in1k</code> fetches them once.)"
        )
    count = f"{SHOWN} of {len(seen)}" if len(seen) > SHOWN else f"All {len(seen)}"
    return paragraphs(text) + figure(
        tiles,
        f"{count} feature maps {shape(seen[0])} of the picture, before the ReLU: grey is zero, light positive, each on "
        "a scale of its own.",
    )


def _tiles(pictures: list[Numbers], what: str, footer: str = "", kind: str = "") -> str:
    cells = (picture(pixels, str(number), alt=f"{what} {number}") for number, pixels in enumerate(pictures))
    return f'<div class="tiles {kind}">{"".join(cells)}</div>{footer}'


def _drawing(still: Still, theme: str) -> str:
    """A drawing as an image in the page, for one of the page's two looks."""
    data = base64.b64encode(still.to_svg().encode()).decode("ascii")
    return f'<img class="{theme}" src="data:image/svg+xml;base64,{data}" alt="{escape(still.description, quote=True)}">'


def _share(scores: Numbers) -> float:
    """The softmax of the highest score."""
    return float(1 / np.exp(scores - scores.max()).sum())


SECTION = Section("inside", "What the layers of a network find", CODE, show)
