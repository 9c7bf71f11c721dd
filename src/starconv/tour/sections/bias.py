"""The inductive bias of convolutions: they commute with shifts, have few parameters, and learn from few pictures."""

from ..html import digits, drawing, figure, paragraphs, shape, table
from ..mathml import formula, words
from ..section import Names, Section

CODE = """\
from starconv.tour.digits_network import compared

# A piece of the picture is shifted before the layer, or after it.
side = min(16, *grey.shape)
corner = [min(position, size - side) for position, size
          in zip(best, grey.shape)]
piece = grey[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
moves = [sc.view.equivariance(piece, K, max(1, side // 5), padding=1,
                              theme=theme) for theme in ("light", "dark")]
shared, unshared = moves[0].data.layers         # the edge kernel, dense
assert shared.error_inside < 1e-12

# A layer of 16 kernels as the dense layer that does the same.
conv_layer = sc.nn.Conv2d(1, 16, 3, padding=1, seed=0)
as_dense = sc.bias.as_dense(conv_layer, (1, 10, 10))
sizes = [sum(p.value.size for p in one.parameters())
         for one in (conv_layer, as_dense)]

# Two networks learn from the same few digits, three seeds each:
duel = compared()                     # sc.bias.compare((50, 200), steps=100)
charts = [duel.figure(theme=theme) for theme in ("light", "dark")]
"""


def show(names: Names) -> str:
    """The commuting diagram with numbers, what a dense layer would need, and the comparison."""
    shared, unshared, duel = names["shared"], names["unshared"], names["duel"]
    few, many = names["sizes"]
    offset = names["moves"][0].data.shift[0]
    lines = [
        (
            digits(score.pictures),
            score.network,
            digits(score.parameters),
            _range(score.accuracy, score.accuracy_spread),
            _range(score.shifted, score.shifted_spread),
        )
        for score in duel.scores
    ]
    return (
        paragraphs(
            "Why convolutions? An edge is an edge wherever it is. A convolution knows that before it has learned "
            "anything: it uses the same numbers everywhere, so if the input is shifted by <var>S</var>, the output is "
            "the same, shifted. It is <em>equivariant</em>:"
        )
        + formula(words("( S X ) ⋆ K = S ( X ⋆ K ) ."))
        + figure(
            drawing(*names["moves"]),
            f"A piece of the picture, shifted by {offset} pixel{'s' * (offset > 1)} down and right. The convolution’s "
            f"two ways differ by {_percent(shared.error_inside)} away from the border, those of a dense layer with "
            f"weights of its own for every place by {_percent(unshared.error_inside)}.",
        )
        + paragraphs(
            "Such assumptions that a model makes before it sees data are its <em>inductive bias</em>. This one saves "
            f"numbers to learn: a layer of 16 kernels of 3 × 3 has {digits(few)} parameters, and the dense layer that "
            f"computes the same on pictures of {shape((10, 10))} has {digits(many)}, nearly all of them zeros and "
            "copies. A dense layer is free to use them all differently; from few pictures it cannot know that it "
            "should not.",
            "What is that worth? Two networks of about the same size learn from the same few digits, with as many "
            f"steps ({duel.budget}), and each with the learning rate of three that suits it best on pictures held back "
            f"from its training. Then both read {_tests(names)} digits that they have not seen, as they are and "
            f"shifted by {duel.shift} pixel, which was not practised:",
        )
        + figure(
            drawing(*names["charts"])
            + table(("pictures", "network", "parameters", "as they are", f"shifted by {duel.shift}"), lines),
            f"Right answers, mean and standard deviation over {len(duel.seeds)} seeds. Shifts cost the convolutional "
            "network something too, since its last layer is dense, but less: its kernels find the same strokes "
            "elsewhere.",
        )
    )


def _tests(names: Names) -> str:
    return digits(len(names["exam"].labels))


def _range(mean: float, spread: float) -> str:
    return f"{100 * mean:.1f} ± {100 * spread:.1f} %"


def _percent(share: float) -> str:
    return "nothing" if share < 1e-12 else f"{digits(100 * share, 0 if share >= 0.1 else 2)} %"


SECTION = Section("bias", "Why convolutions: inductive bias", CODE, show)
