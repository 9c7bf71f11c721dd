"""Stride and padding, with the size formula and its numbers."""

from ...geometry import Axis, convolution_axes
from ..draw import scale_limit, signed
from ..html import digits, figure, legend, paragraphs, picture, row, shape, table
from ..mathml import floor, formula, inline, words
from ..mathml import row as terms
from ..section import Names, Section

CODE = """\
outputs = {}
for stride in (1, 2):
    for padding in (0, 1):
        output = sc.conv2d(grey[np.newaxis], K[np.newaxis, np.newaxis],
                           stride=stride, padding=padding)[0]
        assert output.shape == sc.output_size(grey.shape, 3, stride, padding)
        outputs[stride, padding] = output
"""


def show(names: Names) -> str:
    """A diagram of who reads what, a table of sizes, and the outputs at their true relative size."""
    grey, outputs, k = names["grey"], names["outputs"], names["K"]
    axes = {key: convolution_axes(grey.shape, k.shape, *key) for key in outputs}
    lines = []
    for (stride, padding), (down, across) in axes.items():
        output = outputs[stride, padding]
        lines.append((str(stride), str(padding), f"{_with_numbers(down)}<br>{_with_numbers(across)}", shape(output)))
    limit = scale_limit(outputs[1, 0])
    small = Axis(7, 3, stride=2, before=1, after=1)
    unread = [axis.output_padding for axis in axes[2, 1]]
    pictures = row(
        *(
            picture(
                signed(outputs[key], limit),
                f"stride {key[0]}, padding {key[1]}: {shape(outputs[key])}",
                alt=f"Response with stride {key[0]} and padding {key[1]}",
                width=outputs[key].shape[1] / outputs[1, 1].shape[1],
                footer=legend(limit) if key == (1, 1) else "",
            )
            for key in ((1, 1), (2, 1))
        ),
        kind="pictures",
    )
    return (
        paragraphs(
            "So far the output was a little smaller than the input, as the kernel must fit inside. <em>Padding</em> "
            "<var>p</var> puts <var>p</var> rows and columns of zeros around the picture first. <em>Stride</em> "
            "<var>s</var> moves the kernel by <var>s</var> pixels at a time, so that it makes an output for only "
            "every <var>s</var>-th position in each direction. An input of size <var>H</var> and a kernel of size "
            "<var>k</var> give"
        )
        + formula(floor(words("( H + 2 p − k ) / s")), words("+ 1"))
        + paragraphs(
            "outputs along each axis: the first window, and one more for every full step of <var>s</var> that is "
            "left. (Between the taps of a kernel with <em>dilation</em> <var>d</var> there are gaps; it counts as one "
            "of size <var>d</var>(<var>k</var> − 1) + 1.)"
        )
        + figure(
            _diagram(small),
            f"One axis: <var>H</var> = {small.input}, <var>k</var> = {small.kernel}, <var>s</var> = {small.stride}, "
            f"<var>p</var> = {small.before}. Each output (below) reads the inputs (above) that it is connected with. "
            f"Zeros of the padding are dashed. {inline(_numbers(small))}.",
        )
        + paragraphs(f"With the numbers of this picture, {shape(grey)}, and the kernel of 3 × 3:")
        + figure(
            table(("<var>s</var>", "<var>p</var>", "height, width", "output"), lines, kind="sizes"),
            "The size formula, for every combination of stride 1 and 2 and padding 0 and 1.",
        )
        + paragraphs(
            "Padding 1 with a 3 × 3 kernel keeps the size; stride 2 halves it, which is how networks make their "
            "pictures smaller on the way to an answer. "
            + _unread(unread)
            + " Look at the frame of the padded response: next to the zeros outside, a light picture has an edge that "
            "is not in the picture."
        )
        + figure(
            pictures,
            "Both at the same scale: "
            f"{digits(outputs[1, 1].size)} outputs with stride 1, {digits(outputs[2, 1].size)} with stride 2.",
        )
    )


def _numbers(axis: Axis) -> str:
    """The size formula of one axis with the numbers put in."""
    steps = floor(words(f"( {axis.input} + 2 · {axis.before} − {axis.extent} ) / {axis.stride}"))
    return terms(steps, words(f"+ 1 = {axis.output}"))


def _with_numbers(axis: Axis) -> str:
    return inline(_numbers(axis))


def _unread(unread: list[int]) -> str:
    if not any(unread):
        return "Here the windows with stride 2 end exactly at the edge of the padded picture."
    where = " and ".join(
        f"{count} {line}{'s' if count > 1 else ''}"
        for count, line in zip(unread, ("row at the bottom", "column at the right"), strict=True)
        if count
    )
    return (
        f"The ⌊ ⌋ means that steps which do not fit are left out: with stride 2 and padding 1 no output reads {where} "
        "of the padded picture."
    )


def _diagram(axis: Axis) -> str:
    """Input elements above, output elements below, lines between those that read each other."""
    step, radius = 56, 17
    first = -axis.before
    places = range(first, axis.input + axis.after)

    def x(position: float) -> float:
        return (position - first + 0.5) * step

    centre = (axis.kernel - 1) / 2
    parts = []
    for output in range(axis.output):
        reads = axis.reads(output)
        at = x(reads[0] + centre * axis.dilation)
        for position in reads:
            parts.append(f'<line class="wire w{output % 4}" x1="{x(position):g}" y1="44" x2="{at:g}" y2="124"/>')
        parts.append(f'<circle class="node w{output % 4}" cx="{at:g}" cy="140" r="{radius}"/>')
        parts.append(f'<text class="in" x="{at:g}" y="140">O{_below(output)}</text>')
    for position in places:
        inside = 0 <= position < axis.input
        parts.append(f'<circle class="{"cell" if inside else "zero"}" cx="{x(position):g}" cy="28" r="{radius}"/>')
        parts.append(f'<text x="{x(position):g}" y="28">{f"X{_below(position)}" if inside else "0"}</text>')
    width = len(places) * step
    return (
        f'<svg class="diagram" viewBox="0 0 {width} 168" style="max-width:{width}px" role="img" '
        f'aria-label="Which inputs each of {axis.output} outputs reads">{"".join(parts)}</svg>'
    )


def _below(index: int) -> str:
    return f'<tspan class="index" dy="4">{index}</tspan>'


SECTION = Section("sizes", "Stride, padding and sizes", CODE, show)
