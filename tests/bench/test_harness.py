"""The harness: what it compares, how it times, what it writes; and one run of the whole thing in small."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bench import rows, shapes, timing
from bench.machine import cache_bytes, describe
from bench.peers.entrant import Entrant, is_filter
from bench.peers.own import Call, Correlate, Prepared
from bench.report import Report, Run, time_text
from bench.roofline import Roofline
from starconv.problem import Problem

ROOT = Path(__file__).parents[2]
ROOFLINE = Roofline(2, 100e9, (("L2", 1 << 20, 100e9), ("memory", 1 << 62, 10e9)))
ROW = shapes.Row("test", Problem.parse("conv2d x=1x2x9x8 w=3x2x3x3 padding=1"))


class Peer(Entrant):
    name = "peer"
    module = "numpy"

    def __init__(self, change: float = 0.0, slow: float = 0.0) -> None:
        self.change, self.slow = change, slow

    def refuses(self, problem, operands):
        return None

    def ready(self, problem, operands, threads):
        expected = Prepared().ready(problem, operands, threads)()

        def call():
            time.sleep(self.slow)
            return expected + self.change

        return call


def test_a_row_compares_and_times_everyone():
    outcome = rows.measure(ROW, [Call(), Correlate(), Prepared(), Peer()], 1, timing.QUICK, ROOFLINE)
    assert set(outcome.entries) == {"starconv call", "starconv plan", "peer"}
    assert outcome.reasons == {"starconv correlate": "no filter of one channel"}
    assert not outcome.wrong
    own, peer = outcome.entries["starconv plan"].seconds, outcome.entries["peer"].seconds
    assert outcome.ratio(prepared=True) == pytest.approx(peer / own)


def test_another_result_is_reported_and_not_timed():
    outcome = rows.measure(ROW, [Prepared(), Peer(change=0.01)], 1, timing.QUICK, ROOFLINE)
    assert outcome.wrong == ["starconv plan"]
    assert set(outcome.entries) == {"peer"}
    assert "differs from peer" in outcome.reasons["starconv plan"]


def test_a_call_is_not_held_against_prepared_peers():
    prepared = Peer()
    prepared.prepared, prepared.name = True, "prepared"
    outcome = rows.measure(ROW, [Call(), Prepared(), Peer(slow=0.02), prepared], 1, timing.QUICK, ROOFLINE)
    assert outcome.best(ours=False, prepared=False)[0] == "peer"
    assert outcome.best(ours=False, prepared=True)[0] == "prepared"


@pytest.mark.parametrize(
    ("array", "expected", "error"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([3.0, 4.5], [3.0, 4.0], 0.5 / 12.5**0.5),
        ([3.0, np.nan], [3.0, 4.0], np.inf),
        ([3.0], [3.0, 4.0], np.inf),
        ([], [], 0.0),
    ],
)
def test_differences_are_parts_of_the_root_mean_square(array, expected, error):
    assert rows.difference(np.array(array), np.array(expected)) == pytest.approx(error)


def test_blocks_alternate_and_find_the_slower_call(monkeypatch):
    order = []
    calls = {"fast": lambda: order.append("fast"), "slow": lambda: (order.append("slow"), time.sleep(0.003))}
    monkeypatch.setattr(timing.Load, "others", lambda self: 0.0)
    effort = timing.Effort(rounds=2, calls=3, seconds=0.001, warm_up=0.001, rest=0.0)
    found, load = timing.alternate(calls, effort)
    assert load == 0
    assert found["slow"].seconds > 0.003 > found["fast"].seconds
    blocks = [name for name, before in zip(order, [None, *order[:-1]], strict=True) if name != before]
    assert blocks == ["fast", "slow", "fast"]  # slow, slow is one change less: the second round begins with the other


def test_calls_beyond_patience_get_two_blocks():
    calls = {"slow": lambda: time.sleep(0.004)}
    found, _ = timing.alternate(calls, timing.Effort(calls=5, seconds=0.001, rest=0.0, patience=0.002))
    assert 1 <= len(found["slow"].blocks) <= 2


def test_rounds_that_others_disturbed_are_repeated(monkeypatch):
    loads = iter([0.5, 0.01, 0.3, 0.02])
    monkeypatch.setattr(timing.Load, "others", lambda self: next(loads))
    seconds = iter([9.0, 1.0, 8.0, 3.0])
    monkeypatch.setattr(timing, "_block", lambda call, effort: next(seconds))
    found, load = timing.alternate({"call": print}, timing.Effort(rounds=2, rest=0.0, patience=10))
    assert [block.seconds for block in found["call"].blocks] == [1.0, 3.0]
    assert load == pytest.approx(0.015)


def test_a_machine_that_is_never_quiet_gives_its_quietest_rounds(monkeypatch):
    loads = iter([0.5, 0.2, 0.4])
    monkeypatch.setattr(timing.Load, "others", lambda self: next(loads))
    found, load = timing.alternate({"call": int}, timing.Effort(rounds=1, attempts=3, seconds=0.0, rest=0.0))
    assert len(found["call"].blocks) == 1
    assert load == 0.2


def test_the_roofline_is_the_larger_of_arithmetic_and_traffic():
    dense = Problem.parse("conv2d x=1x256x14x14 w=256x256x3x3 padding=1")
    assert ROOFLINE.floor(dense) == pytest.approx(2 * dense.multiply_adds / 100e9)
    thin = Problem.parse("conv2d x=1x1x2160x3840 w=1x1x3x3 padding=1")
    assert ROOFLINE.floor(thin) == pytest.approx(thin.bytes_moved / 10e9)


def test_filters_are_told_from_layers():
    assert is_filter(Problem.parse("conv2d x=1x1x9x9 w=1x1x3x4 padding=1:1x2:1"))
    for text in ("conv2d x=1x1x9x9 w=1x1x3x3", "conv2d x=2x1x9x9 w=1x1x3x3 padding=1", "input_grad1d x=1x1x9 w=1x1x1"):
        assert not is_filter(Problem.parse(text))


def test_reports_have_every_row_and_no_paths():
    outcome = rows.measure(ROW, [Call(), Prepared(), Peer()], 1, timing.QUICK, ROOFLINE)
    outcome.foreign_load = 0.0
    report = Report(describe(), "2026-01-01", "python -m bench", [Run(1, ROOFLINE, [outcome])])
    text, document = report.markdown(), json.loads(report.json())
    assert f"| {ROW.name} |" in text
    assert "## test, 1 thread" in text
    assert document["runs"][0]["rows"][0]["entries"]["peer"]["seconds"] > 0
    assert str(ROOT) not in text + report.json()
    assert "†" not in text
    outcome.foreign_load = 0.5
    assert f"| {ROW.name} † |" in report.markdown()


def test_times_are_written_with_three_digits():
    texts = [time_text(seconds) for seconds in (2.0, 0.0123456, 0.1234567, 4.321e-6)]
    assert texts == ["2 s", "12.3 ms", "123 ms", "4.32 µs"]


def test_caches_have_sizes():
    assert cache_bytes(1) <= cache_bytes(2) <= cache_bytes(3)


def test_the_command_checks_itself():
    command = [sys.executable, "-m", "bench", "small", "--check", "--threads", "1", "--peers", "scipy"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "conv2d x=1x1x8x8 w=1x1x3x3 padding=1" in done.stdout
    assert "scipy.ndimage" in done.stdout
