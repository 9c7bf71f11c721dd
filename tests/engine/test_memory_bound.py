"""How much memory a call takes beside its arrays: measured from outside, and counted against what the plan says."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from strategies import every_algorithm, operands, targets

from starconv import Problem, get_num_threads, set_num_threads
from starconv.engine.algorithms import TABLE
from starconv.engine.emit.target import host_target, named_target
from starconv.engine.runtime import memory

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

BIG = [
    "conv2d x=8x64x112x112 w=64x64x3x3 padding=1",
    "conv2d x=4x64x112x112 w=64x64x3x3 padding=1 channels_last",
    "conv2d x=1x3x2000x2000 w=8x3x3x3 bias relu",
    "conv2d x=16x256x28x28 w=512x256x1x1",
    "conv2d x=1x1x4000x4000 w=1x1x5x5 padding=2 border=reflect",
    "conv1d x=1x1x10000000 w=1x1x31 padding=15",
    "conv1d x=2x8x400000 w=16x8x5 stride=2",
    "conv3d x=1x16x32x64x64 w=16x16x3x3x3 padding=1",
    "input_grad2d x=8x32x112x112 w=64x32x4x4 stride=2 padding=1",
    "weight_grad2d x=8x32x112x112 w=64x32x3x3 padding=1",
    "conv2d x=1x1024x8x8 w=2048x1024x3x3 padding=1",
    "conv2d x=1x25088x1x1 w=1024x25088x1x1",
    "input_grad2d x=1x1024x8x8 w=2048x1024x3x3 padding=1",
    "weight_grad2d x=1x1024x8x8 w=2048x1024x3x3 padding=1",
    "conv2d x=1x1x3000x3000 w=1x1x3x3 dtype=int64",
]

SMALL_INTEGERS = [
    ("conv2d x=1x1x4000x4000 w=1x1x3x3", "uint8"),
    ("conv2d x=1x1x3000x3000 w=1x1x3x3 padding=1 dtype=float64", "int16"),
    ("conv2d x=1x40x1000x1000 w=40x1x3x3 padding=1 groups=40", "int8"),
    ("conv1d x=1x1x20000000 w=1x1x9", "uint16"),
]
"""Problems with first operands that are widened while they are read, not copied as a whole."""

PROGRAM = """
import json, re, sys
import numpy as np
from starconv import Problem, plan

def status(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10

for text, source in json.loads(sys.argv[1]):
    problem = Problem.parse(text)
    first, second = (np.ones(shape, problem.dtype) for shape in problem.operand_shapes)
    first = first.astype(source or problem.dtype)
    bias = np.ones(problem.result_shape[1], problem.dtype) if problem.bias else None
    chosen = plan(problem, source=source)
    # Compiling takes memory of its own, once.
    chosen(first, second, bias)
    used = []
    for call in (lambda: chosen(first, second, bias), lambda: prepared(first, out=out)):
        prepared, out = chosen.prepare(second, bias), np.ones(problem.result_shape, problem.dtype)
        before = status("VmRSS")
        open("/proc/self/clear_refs", "w").write("5")   # the high-water mark starts again
        call()
        used.append(status("VmHWM") - before)
    print(json.dumps([text, chosen.algorithm, out.nbytes, *used]))
    del first, second, out, prepared
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's high-water mark")
def test_calls_stay_within_the_promised_memory() -> None:
    """Beside x, w and the result: 32 MiB, or a quarter of them if that is more."""
    cases = [*((text, None) for text in BIG), *SMALL_INTEGERS]
    command = [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(cases)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(cases)
    for (_, source), (text, algorithm, result_bytes, functional, prepared) in zip(cases, rows, strict=True):
        problem = Problem.parse(text)
        narrow = (
            0 if source is None else math.prod(problem.input_shape) * (problem.itemsize - np.dtype(source).itemsize)
        )
        bound = max(32 << 20, (problem.bytes_moved - narrow) // 4)
        assert functional - result_bytes <= bound, f"{text} by {algorithm}: {functional - result_bytes:,} bytes"
        assert prepared <= bound, f"{text} by {algorithm}, prepared: {prepared:,} bytes"


MEASURING = """
import re, sys
import numpy as np
import starconv as sc
from starconv.engine.runtime import memory, recycling

def status(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10

def forget():
    # What is kept to be used again counts when it is wanted.
    for kept in (memory, recycling):
        kept._shelves.clear()
        kept._kept = 0
"""
"""What scripts begin with that ask the system for the most memory their process had."""

OTHER_TYPES = """
dtype = sys.argv[1]
picture, taps, kernel = np.ones((4000, 4000), dtype), np.ones((3, 3), dtype), np.ones((1, 1, 3, 3), dtype)
x, w = np.ones((8, 32, 112, 112), dtype), np.ones((32, 32, 3, 3), dtype) / (300 if dtype == "float16" else 1)
w = w.astype(dtype)
small = x if dtype != "float16" else x / x.dtype.type(64)   # sums that float16 holds
calls = {
    "correlate": (sc.correlate, picture, taps),
    "conv2d": (sc.conv2d, picture[None, None], kernel),
    "layer": (lambda x, w: sc.conv2d(x, w, padding=1), x, w),
    "input gradient": (lambda x, w: sc.grad.conv2d_input(x.shape, w, x, padding=1), x, w),
    "weight gradient": (lambda x, w: sc.grad.conv2d_weight(x, w.shape, x, padding=1), small, w),
}
for name, (call, first, second) in calls.items():
    call(first, second)   # compiling takes memory of its own, once
    forget()
    before = status("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")
    result = call(first, second)
    print(status("VmHWM") - before - result.nbytes, name)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's high-water mark")
@pytest.mark.parametrize("dtype", ["float16", "bool", "uint8", "int16", "int32", "int64"])
def test_operands_of_other_types_than_their_sums_are_not_copied_as_a_whole(dtype: str) -> None:
    command = [sys.executable, "-W", "error", "-c", MEASURING + OTHER_TYPES, dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        used, name = line.split(maxsplit=1)
        assert int(used) <= 16 << 20, f"{name} of {dtype}: {int(used):,} bytes"


LYING_OTHERWISE = """
def ones(*shape, dtype="float32"):
    return np.ones(shape, dtype)

x, tall, planes = ones(8, 128, 112, 112), ones(1, 16, 1000, 1000), ones(3000, 3200)
row, double = ones(1, 1, 9_000_000, dtype="float16"), tall.astype("float64")
layer, depthwise, taps = ones(16, 16, 3, 3), ones(128, 1, 3, 3), ones(3, 3)
last = np.moveaxis(ones(8, 112, 112, 128), -1, 1)
wide = np.empty((1, 16, 1000, 1008), "float32")[..., :1000]
volume, four = ones(300, 200, 150), ones(50, 60, 40, 80)
whole = ones(2000, 2000, dtype="complex128")
connected = ones(1, 4096, 1, 1, dtype="float16"), ones(8192, 4096, 1, 1, dtype="float16") / np.float16(4096)
by_hand = sc.plan("conv2d x=1x16x1000x1000 w=16x16x3x3 padding=1")
calls = {
    "a depthwise layer to channels last": (lambda: sc.conv2d(x, depthwise, padding=1, groups=128, out=last), last, x),
    "a layer to rows apart": (lambda: sc.conv2d(tall, layer, padding=1, out=wide), wide, tall),
    "a layer in place": (lambda: sc.conv2d(tall, layer, padding=1, out=tall), tall),
    "a filter in place": (lambda: sc.correlate(planes, taps, planes), planes),
    "a turned picture": (lambda: sc.correlate(planes.T, ones(5, 5)), None, planes),
    "an axis between others": (lambda: sc.correlate(volume, ones(5), axes=1), None, volume),
    "complex numbers": (lambda: sc.correlate(whole, taps + 1j), None, whole),
    "complex numbers in place": (lambda: sc.correlate(whole, taps, whole), whole),
    "four axes": (lambda: sc.correlate(four, ones(3, 3, 3, 2)), None, four),
    "a long row of float16": (lambda: sc.conv1d(row, ones(1, 1, 9, dtype="float16")), None, row),
    "a dense layer of float16": (lambda: sc.conv2d(*connected), None, *connected),
    "a plan called by hand": (lambda: by_hand(double, layer, casting="unsafe"), None, double),
}
for name, (call, out, *operands) in calls.items():
    call()   # compiling takes memory of its own, once
    forget()
    before = status("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")
    result = call()
    used = status("VmHWM") - before - (result.nbytes if out is None else 0)
    print(used, sum(array.nbytes for array in (result, *operands)), name)
    del result
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's high-water mark")
def test_arrays_may_lie_as_they_like() -> None:
    """No kernel reads or writes these in place, but nothing of their size is made beside them."""
    # So that what is freed goes back to the system, and counts when it comes again.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    command = [sys.executable, "-W", "error", "-c", MEASURING + LYING_OTHERWISE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 12
    for line in done.stdout.splitlines():
        used, arrays, name = line.split(maxsplit=2)
        assert int(used) <= max(32 << 20, int(arrays) // 4), f"{name}: {int(used):,} bytes beside {int(arrays):,}"


COUNTED = [
    "conv2d x=2x64x28x28 w=96x64x3x3 padding=1",
    "conv2d x=1x512x14x14 w=256x512x3x3 padding=1 channels_last",
    "conv2d x=1x3x64x64 w=16x3x7x7 stride=2 padding=3 relu",
    "conv2d x=1x64x32x32 w=128x64x1x1",
    "conv2d x=2x40x20x20 w=40x1x3x3 padding=1 groups=40 channels_last",
    "conv2d x=2x40x20x20 w=40x1x3x3 padding=1 groups=40",
    "conv2d x=1x1x300x300 w=1x1x15x15",
    "conv1d x=1x2x400000 w=3x2x9",
    "conv3d x=1x8x12x12x12 w=8x8x3x3x3 dtype=float64",
    "input_grad2d x=2x16x32x32 w=24x16x4x4 stride=2 padding=1",
    "weight_grad2d x=2x16x32x32 w=24x16x3x3 padding=1",
    "conv2d x=1x64x32x32 w=128x64x1x1 channels_last",
    "input_grad2d x=2x40x20x20 w=40x1x3x3 padding=1 groups=40",
    "weight_grad2d x=2x40x20x20 w=40x1x3x3 padding=1 groups=40",
    "weight_grad2d x=2x40x20x20 w=40x1x3x3 padding=1 groups=40 channels_last",
    "weight_grad2d x=4x40x20x20 w=50x40x1x1 channels_last",
    "conv2d x=1x1x500x500 w=1x1x41x41",
    "conv2d x=2x32x28x28 w=32x32x5x5 padding=2",
    "conv2d x=1x64x56x56 w=128x64x3x3 stride=2 padding=1",
]


@pytest.mark.parametrize("text", COUNTED)
def test_the_workspace_of_a_plan_is_an_upper_bound(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all that is borrowed at a time: packed weights, packed input, waiting sums."""
    problem = Problem.parse(text)
    given = operands(problem, 1)
    live: dict[int, int] = {}
    most = [0]
    borrow, give_back = memory.scratch, memory._give_back

    def scratch(size: int) -> memory.Scratch:
        block = borrow(size)
        live[id(block)] = size
        most[0] = max(most[0], sum(live.values()))
        return block

    def returned(block: memory.Scratch) -> None:
        live.pop(id(block), None)
        give_back(block)

    monkeypatch.setattr(memory, "held_scratch", lambda size: None)  # what is held was borrowed once, too
    monkeypatch.setattr(memory, "scratch", scratch)
    monkeypatch.setattr(memory, "_give_back", returned)
    target = targets()[0]
    assert target is not None
    assert get_num_threads() <= max(target.cores, 1)
    for chosen in every_algorithm(problem, on=[target]):
        stated = next(row.workspace for row in chosen.candidates if row.name == chosen.algorithm)
        for threads in range(1, get_num_threads() + 1):
            live.clear()
            most[0] = 0
            set_num_threads(threads)
            chosen(given.first, given.second, given.bias)
            assert most[0] <= stated, f"{threads} threads: {chosen.explain()}"


def test_every_row_of_the_table_was_counted() -> None:
    problems = [Problem.parse(text) for text in COUNTED]
    for row in TABLE:
        here = [host_target(), named_target("avx512")]  # some rows are for one kind of processor only
        assert any(row.refuses(problem, target) is None for problem in problems for target in here), row.NAME


def test_plans_hold_no_more_than_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "HELD_BYTES", memory._held + (1 << 20))
    blocks = [memory.held_scratch(300 << 10) for _ in range(5)]
    assert [block is None for block in blocks] == [False] * 3 + [True] * 2
    del blocks[0]
    assert memory.held_scratch(300 << 10) is not None
