"""Peak memory of calls: how far a call's process grows beyond its operands and its result."""

from starconv.problem import Problem

from .children import numbers
from .report import Figure

MIB = 2.0**20

CALL = """
import sys
from bench import shapes
from bench.children import peak_bytes
from bench.peers.own import Call
row = shapes.Row("memory", shapes.Problem.parse(sys.argv[1]))
operands = shapes.operands(row)

call = Call().ready(row.problem, operands, int(sys.argv[2]))
if sys.argv[3] == "second":
    call()
before = peak_bytes(reset=True)
result = call()
print(peak_bytes() - before, result.nbytes)
"""
"""Prints the growth of the peak over one call and the result's bytes; a second call finds its code compiled."""

PROBLEMS = (
    "conv2d x=1x1x2160x3840 w=1x1x3x3 padding=1",
    "conv2d x=1x1x2160x3840 w=1x1x31x31 padding=15",
    "conv2d x=1x64x224x224 w=64x64x3x3 padding=1",
    "conv2d x=16x64x56x56 w=64x64x3x3 padding=1",
    "conv2d x=16x3x224x224 w=64x3x7x7 stride=2 padding=3",
    "conv2d x=16x144x56x56 w=144x1x3x3 padding=1 groups=144",
    "conv2d x=16x256x56x56 w=64x256x1x1",
    "conv3d x=1x3x16x112x112 w=64x3x3x7x7 stride=1x2x2 padding=1x3x3",
    "input_grad2d x=16x64x56x56 w=64x64x3x3 padding=1",
    "weight_grad2d x=16x64x56x56 w=64x64x3x3 padding=1",
)


def measure(check: bool = False) -> list[Figure]:
    """Workspace of a call in MiB, against max(32 MiB, a quarter of operands and result)."""
    figures = []
    for text in PROBLEMS[: 1 if check else None]:
        bound = max(32 * MIB, Problem.parse(text).bytes_moved / 4)
        for which in ("first", "second"):
            growth, result = numbers(CALL, text, "2", which)
            note = "compiling included" if which == "first" else ""
            target = None if which == "first" else round(bound / MIB)
            name = f"workspace of a {which} call: {text}"
            figures.append(Figure("memory", name, max(growth - result, 0.0) / MIB, "MiB", target, note))
    return figures
