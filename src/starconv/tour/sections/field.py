"""How far an output sees: the receptive field of a stack of layers, by the formula and measured on the picture."""

from ..html import drawing, figure, paragraphs, shape
from ..mathml import formula, name, op, row, sub, summation, words
from ..section import Names, Section

CODE = """\
# The beginning of a ResNet, which comes in many sizes.
stack = "conv 8x7x7 stride=2 padding=3; pool 3x3 stride=2 padding=1"
stack += "; conv 8x3x3 padding=1; conv 8x3x3 padding=1"
views = [sc.view.receptive_field(stack, grey, theme=theme)
         for theme in ("light", "dark")]
reach = views[0].data
assert reach.agrees                             # the formula, and measured
"""


def show(names: Names) -> str:
    """The formula, and the drawing on the picture with the field after each layer."""
    reach = names["reach"]
    seen = shape([last - first + 1 for first, last in reach.span])
    pixels = " × ".join(map(str, names["grey"].shape))
    k, s = name("k"), name("s")
    return (
        paragraphs(
            "An output of one 3 × 3 layer sees 3 × 3 pixels. An output of the layer after it sees 3 × 3 of those, and "
            "so more of the picture; behind a stride, every further step is longer. The side of what an output sees "
            "in the end, its <em>receptive field</em>, is, over all layers <var>l</var>,"
        )
        + formula(
            words("r = 1 +"),
            summation(name("l")),
            row(op("("), sub(k, name("l")), words("− 1"), op(")")),
            summation(words("m < l")).replace("∑", "∏"),
            sub(s, name("m")),
            op("."),
        )
        + figure(
            drawing(*names["views"]),
            f"The field of the output in the middle, {seen} on a picture of {pixels} pixels: framed, what the formula "
            "says; coloured, which pixels the output really depends on, and how strongly, if all weights are equal. "
            "Few ways lead to the corners and many to the middle.",
        )
    )


SECTION = Section("field", "How far an output sees", CODE, show)
