"""Training: the edge kernel learned back from its answers, then a network that learns to read digits."""

from functools import partial

import numpy as np

from ..draw import brightness, signed
from ..html import digits, drawing, figure, grid, paragraphs, picture, row, shape
from ..mathml import formula, name, op, sub, words
from ..mathml import row as terms
from ..section import Names, Numbers, Section

CODE = """\
from starconv import nn
from starconv.tour.digits_network import trained

# A layer with random weights is shown pictures and what K answers to them.
lesson = sc.data.shapes(64, size=16).train.images
solutions = sc.conv2d(lesson, K[np.newaxis, np.newaxis].astype("float32"))
student = nn.Conv2d(1, 1, 3, bias=False, seed=0)
kernel_before = np.array(student.weight[0, 0])
descent = nn.SGD(student.parameters(), lr=0.1, momentum=0.9)
course = nn.fit(student, (lesson, solutions), epochs=60, batch_size=16,
                optimizer=descent, loss=nn.MSELoss(), progress=False)
kernel_after = np.array(student.weight[0, 0])
kernel_error = np.abs(kernel_after - K).max()
assert kernel_error < 0.01

# A network: three convolutions, two pools, a dense layer; 8 x 8 digits.
learned = trained()                             # as `starconv train digits`
curves = [sc.view.history(learned.history, theme=theme)
          for theme in ("light", "dark")]
exam = learned.data.test                        # pictures it has not seen
answers = nn.predict(learned.network, exam.images).argmax(axis=1)
mistakes = np.flatnonzero(answers != exam.labels)
kernels_before = learned.first_kernels[:, 0]    # of the first layer
kernels_after = learned.network[0].weight[:, 0]
"""


def show(names: Names) -> str:
    """The kernel before and after, the formula of the step, the loss curve, kernels and mistakes of the network."""
    before, after, k = names["kernel_before"], names["kernel_after"], names["K"]
    course, learned, exam = names["course"], names["learned"], names["exam"]
    palette = partial(signed, limit=1.0)
    total, wrong = len(exam.labels), len(names["mistakes"])
    right = 100 * (total - wrong) / total
    seconds = sum(learned.history.column("seconds"))
    return (
        paragraphs(
            "One step against the gradient makes a kernel a little better. Many steps, each on a few pictures drawn at "
            "random, are <em>stochastic gradient descent</em>. With <em>momentum</em> a step also keeps a part "
            "<var>μ</var> of the one before, so that what all pictures agree on adds up and what they disagree on "
            "cancels:"
        )
        + formula(
            sub(name("v"), name("t")),
            op("="),
            name("μ"),
            sub(name("v"), terms(words("t − 1"))),
            op("+"),
            terms(op("∇"), name("L")),
            words(","),
            words("K"),
            op("←"),
            words("K − η"),
            sub(name("v"), name("t")),
            op("."),
        )
        + paragraphs(
            "Can a layer find the edge kernel by itself? It begins with random numbers. It is shown "
            f"{len(names['lesson'])} pictures of {shape(names['lesson'][0, 0])} and, for each, what the edge kernel "
            f"answers; the loss is the mean squared difference. After {len(course)} rounds of 4 steps (<var>η</var> = "
            f"{digits(course[0].lr, 1)}, <var>μ</var> = {digits(names['descent'].momentum, 1)}) it is down from "
            f"{digits(course[0].loss)} to {digits(course[-1].loss)}:"
        )
        + figure(
            row(
                grid(before, "before", palette=palette, text=_thousandths, kind="wide"),
                "→",
                grid(after, "after", palette=palette, text=_thousandths, kind="wide"),
                "≈",
                grid(k, "the edge kernel", palette=palette),
                kind="equation",
            ),
            f"Nobody told it the kernel, only its answers. The largest difference is {digits(names['kernel_error'])}.",
        )
        + paragraphs(
            "A network learns all kernels of all layers in the same way, from nothing but pictures and what they show. "
            f"This one was trained while this page was made, on {digits(len(learned.data.train.labels))} handwritten "
            f"digits of {shape(exam.images[0, 0])} pixels, in {digits(seconds, 1)} seconds. Of {total} digits that it "
            f"had never seen, it reads {total - wrong} right: <strong>{digits(right)} %</strong>."
        )
        + figure(
            drawing(*names["curves"]),
            "Loss and accuracy after each round through the training pictures. The loss of pictures that are learned "
            "from keeps falling; what counts is that of the others.",
        )
        + figure(
            _kernels(names["kernels_before"], names["kernels_after"]) + _mistakes(names),
            "Top: the kernels of the first layer before training, which is noise, and after it: of some the light and "
            "dark numbers now stand side by side, as in the filter of an edge."
            + (" Below: every digit that was read wrongly, with the answer and the truth." if wrong else ""),
        )
    )


def _thousandths(value: float) -> str:
    return f"{value:.3f}".replace("-0.000", "0.000").replace("-", "−")


def _kernels(before: Numbers, after: Numbers) -> str:
    limit = float(max(np.abs(before).max(), np.abs(after).max()))
    rows = []
    for kernels, label in ((before, "before"), (after, "after")):
        cells = "".join(
            picture(signed(kernel, limit), "", alt=f"Kernel {number} {label}") for number, kernel in enumerate(kernels)
        )
        rows.append(f'<p class="calculation">{label}</p><div class="tiles">{cells}</div>')
    return "".join(rows)


def _mistakes(names: Names) -> str:
    exam, answers = names["exam"], names["answers"]
    cells = "".join(
        picture(
            brightness(exam.images[number, 0]),
            f"{answers[number]}, is {exam.labels[number]}",
            alt=f"A {exam.labels[number]} taken for a {answers[number]}",
        )
        for number in names["mistakes"]
    )
    return f'<p class="calculation">read wrongly</p><div class="tiles">{cells}</div>' if cells else ""


SECTION = Section("training", "Training", CODE, show)
