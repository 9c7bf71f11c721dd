"""Measured choices: what is kept, who believes it, and what a bad file does (nothing)."""

import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest

import starconv as sc
from starconv import nets
from starconv.engine import measure, planner
from starconv.engine.algorithms import TABLE
from starconv.engine.plan import Candidate
from starconv.engine.runtime import machine, threads
from starconv.engine.wisdom import LIMIT_BYTES, MOST_ENTRIES, MOST_FILES, Entry, Wisdom, signature_of

PROBLEM = "conv2d x=1x8x12x12 w=8x8x3x3 padding=1"
NAMES = [row.NAME for row in TABLE]
ENTRY = Entry("numpy", (("direct", 2e-3), ("numpy", 1e-3)))


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """A cache of its own; what was learnt is read again before and after."""
    path = tmp_path / "cache"
    monkeypatch.setenv("STARCONV_CACHE_DIR", str(path))
    planner.use_wisdom(None)
    yield path
    planner.use_wisdom(Wisdom(signature_of(NAMES), keep=False))


def fresh():
    """What a new process would read."""
    return Wisdom.load(signature_of(NAMES))


def file_of():
    path, _ = fresh().path()
    return path


def test_recorded_is_found_again_in_a_file_one_can_read(directory):
    fresh().record(PROBLEM, ENTRY)
    assert fresh().find(PROBLEM) == ENTRY
    assert fresh().find(PROBLEM + " relu") is None
    text = file_of().read_text()
    assert f'"{PROBLEM}": {{"algorithm": "numpy", "seconds": {{"direct": 0.002, "numpy": 0.001}}}}' in text
    assert json.loads(text)["signature"]["version"] == sc.__version__
    if os.name == "posix":
        assert stat.S_IMODE(file_of().stat().st_mode) == 0o600


def test_the_planner_follows_what_was_measured_and_says_so(directory):
    before = sc.plan(PROBLEM)
    assert before.algorithm != "numpy"
    assert "measured" not in before.explain()
    fresh().record(PROBLEM, ENTRY)
    planner.use_wisdom(None)
    plan = sc.plan(PROBLEM)
    assert plan.algorithm == "numpy"
    assert "  measured: numpy 1 ms, direct 2 ms" in plan.explain().splitlines()
    assert sc.plan(PROBLEM, algorithm="direct").measured == ()


def test_calls_that_were_seen_before_follow_too(directory):
    x, w = np.ones((1, 8, 12, 12), "float32"), np.ones((8, 8, 3, 3), "float32")
    expected = sc.conv2d(x, w, padding=1)
    used = []
    row = next(row for row in TABLE if row.NAME == "numpy")
    build = row.build
    fresh().record(PROBLEM, ENTRY)
    planner.use_wisdom(None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row, "build", lambda *arguments: used.append(arguments) or build(*arguments))
        np.testing.assert_array_equal(sc.conv2d(x, w, padding=1), expected)
    assert used


def test_measuring_times_candidates_and_keeps_the_fastest(directory):
    asked = threads.get_num_threads()
    plan = sc.plan(PROBLEM, effort="measure")
    assert threads.get_num_threads() == asked
    times = dict(plan.measured)
    assert len(times) >= 2
    assert plan.algorithm == min(times, key=times.get)
    assert {row.name for row in plan.candidates if row.refusal is None} >= times.keys()
    assert fresh().find(PROBLEM) == Entry(plan.algorithm, plan.measured)
    assert sc.plan(PROBLEM) is sc.plan(PROBLEM)
    assert sc.plan(PROBLEM).measured == plan.measured


def test_what_is_known_is_not_measured_again(directory, monkeypatch):
    fresh().record(PROBLEM, ENTRY)
    monkeypatch.setattr(measure, "times", None)
    assert sc.plan(PROBLEM, effort="measure").algorithm == "numpy"


@pytest.mark.parametrize(
    "problem",
    [
        "conv2d x=2x4x9x8 w=4x4x3x3 padding=1 channels_last bias",
        "conv1d x=1x3x40 w=4x3x5 dtype=int64",
        "input_grad2d x=2x4x9x8 w=6x4x3x3 stride=2",
        "weight_grad2d x=2x4x9x8 w=6x4x3x3 channels_last",
        "conv2d x=0x4x9x8 w=6x4x3x3",
    ],
)
def test_every_kind_of_problem_can_be_measured(directory, problem):
    plan = sc.plan(problem, effort="measure")
    assert plan.algorithm in (dict(plan.measured) or {plan.algorithm})


def test_strict_is_measured_among_exact_orders_only(directory):
    plan = sc.plan(PROBLEM + " precision=strict", effort="measure")
    assert not {"winograd", "fft", "numpy"} & dict(plan.measured).keys()


WEIGHT_GRADIENTS = [
    "weight_grad2d x=2x16x12x12 w=16x16x1x1 precision=strict",
    "weight_grad2d x=2x16x12x12 w=16x16x3x3 padding=1 precision=strict channels_last",
    "weight_grad2d x=2x16x12x12 w=16x1x3x3 padding=1 groups=16 precision=strict",
    "weight_grad2d x=2x16x12x12 w=16x1x3x3 padding=1 groups=16 dtype=float64 precision=strict channels_last",
]


@pytest.mark.parametrize("problem", WEIGHT_GRADIENTS)
def test_strict_weight_gradients_are_not_measured(directory, problem):
    """Their algorithms sum in different orders, so there is nothing to choose from that keeps the bits."""
    before = sc.plan(problem)
    assert sum(row.refusal is None for row in before.candidates) >= 2
    plan = sc.plan(problem, effort="measure")
    assert (plan.algorithm, plan.measured) == (before.algorithm, ())
    assert len(fresh()) == 0


@pytest.mark.parametrize("problem", WEIGHT_GRADIENTS)
def test_strict_weight_gradients_do_not_follow_a_file(directory, problem):
    before = sc.plan(problem)
    others = [row.name for row in before.candidates if row.refusal is None and row.name != before.algorithm]
    for name in others:
        fresh().record(problem, Entry(name, ((before.algorithm, 1.0), (name, 1e-9))))
        planner.use_wisdom(None)
        assert sc.plan(problem).algorithm == before.algorithm
        planner.use_wisdom(None)
        loose = problem.replace(" precision=strict", "")
        fresh().record(loose, Entry(name, ((name, 1e-9),)))
        planner.use_wisdom(None)
        assert sc.plan(loose).algorithm == name


def test_strict_integer_weight_gradients_are_exact_and_may_be_measured(directory):
    problem = "weight_grad2d x=2x4x9x8 w=6x4x3x3 dtype=int64 precision=strict"
    plan = sc.plan(problem)
    fresh().record(problem, Entry(plan.algorithm, ((plan.algorithm, 1e-3),)))
    planner.use_wisdom(None)
    assert sc.plan(problem).measured == ((plan.algorithm, 1e-3),)


def test_prepared_plans_are_measured_apart(directory):
    whole = sc.plan(PROBLEM, effort="measure")
    assert fresh().find(PROBLEM + " prepared") is None
    plan = sc.plan(PROBLEM, effort="measure", prepared=True)
    times = dict(plan.measured)
    assert len(times) >= 2
    assert times[plan.algorithm] <= min(times.values()) / planner.WORTH
    assert fresh().find(PROBLEM + " prepared") == Entry(plan.algorithm, plan.measured)
    assert fresh().find(PROBLEM) == Entry(whole.algorithm, whole.measured)
    assert sc.plan(PROBLEM, prepared=True).measured == plan.measured
    assert planner.wisdom_key(plan.problem, prepared=True) == PROBLEM + " prepared"


def test_prepared_plans_follow_their_own_entry_only(directory):
    before = sc.plan(PROBLEM), sc.plan(PROBLEM, prepared=True)
    fresh().record(PROBLEM + " prepared", ENTRY)
    planner.use_wisdom(None)
    assert sc.plan(PROBLEM).algorithm == before[0].algorithm
    assert sc.plan(PROBLEM, prepared=True).algorithm == "numpy"
    fresh().record(PROBLEM, ENTRY)
    fresh().record(PROBLEM + " prepared", Entry("magic", (("magic", 1.0),)))
    planner.use_wisdom(None)
    assert sc.plan(PROBLEM).algorithm == "numpy"
    assert sc.plan(PROBLEM, prepared=True).algorithm == before[1].algorithm


@pytest.mark.parametrize("name", ["winograd", "numpy"])
def test_strict_prepared_plans_do_not_follow_other_orders(directory, name):
    problem = PROBLEM + " precision=strict"
    fresh().record(problem + " prepared", Entry(name, ((name, 1e-9), ("direct", 1.0))))
    planner.use_wisdom(None)
    plan = sc.plan(problem, prepared=True)
    assert plan.algorithm != name
    assert plan.measured == ()


def test_a_layer_keeps_its_algorithm_for_less_than_a_twentieth(directory, monkeypatch):
    predicted = sc.plan(PROBLEM, prepared=True).algorithm
    for factor, kept in ((0.97, True), (0.9, False)):
        monkeypatch.setattr(
            measure,
            "times",
            lambda plans, prepared, factor=factor: {name: 1.0 if name == predicted else factor for name in plans},
        )
        assert (planner.measure(sc.Problem.parse(PROBLEM), prepared=True).algorithm == predicted) is kept


def test_large_weights_are_not_prepared_for_all_at_once():
    assert measure.most_prepared(sc.Problem.parse("conv1d x=1x25088x1 w=4096x25088x1")) == 2
    assert measure.most_prepared(sc.Problem.parse(PROBLEM)) > len(NAMES)


def layers():
    """Two convolutions, of the same problem but for the activation."""
    builder = nets.Builder("two")
    random = np.random.default_rng(0)
    x = builder.input("x", np.float32, (1, 8, 12, 12))
    for name in ("a", "b"):
        weights = builder.constant(f"{name}.w", random.standard_normal((8, 8, 3, 3), np.float32))
        x = builder.add("Conv", x, weights, name=name, pads=(1, 1, 1, 1))
        x = builder.add("Relu", x) if name == "a" else x
    return builder.graph(x)


def test_networks_follow_what_was_measured_for_their_layers(directory):
    x = np.random.default_rng(1).standard_normal((1, 8, 12, 12), np.float32)
    old = nets.Network(layers())
    expected = old(x)
    plans = [operation.prepared.plan for operation in old.program(x.shape).operations]
    names = ["winograd2" if plan.algorithm == "direct" else "direct" for plan in plans]
    for plan, name in zip(plans, names, strict=True):
        fresh().record(f"{plan.problem} prepared", Entry(name, ((name, 1e-4), (plan.algorithm, 2e-4))))
    planner.use_wisdom(None)
    new = nets.Network(layers())
    tuned = [operation.prepared for operation in new.program(x.shape).operations]
    assert [(one.algorithm, one.plan.problem) for one in tuned] == [
        (name, plan.problem) for name, plan in zip(names, plans, strict=True)
    ]
    np.testing.assert_allclose(new(x), expected, rtol=1e-4, atol=1e-4)
    # And one that was there before, as single calls do.
    np.testing.assert_array_equal(old(x), new(x))


def test_filters_follow_too(directory):
    picture, kernel = np.ones((12, 12), "float32"), np.ones((3, 3), "float32")
    expected = sc.correlate(picture, kernel, mode="constant")
    problem = "conv2d x=1x1x12x12 w=1x1x3x3 padding=1"
    used = []
    row = next(row for row in TABLE if row.NAME == "numpy")
    build = row.build
    fresh().record(problem, ENTRY)
    planner.use_wisdom(None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row, "build", lambda *arguments: used.append(arguments) or build(*arguments))
        np.testing.assert_array_equal(sc.correlate(picture, kernel, mode="constant"), expected)
    assert used


def test_wrong_efforts(directory):
    with pytest.raises(sc.ArgumentValueError, match="effort = 'mesure': expected 'estimate' or 'measure'"):
        sc.plan(PROBLEM, effort="mesure")
    with pytest.raises(sc.ArgumentValueError, match="effort = 'measure': expected 'estimate' for an algorithm"):
        sc.plan(PROBLEM, effort="measure", algorithm="direct")


HOSTILE = {
    "empty": b"",
    "no JSON": b"import os\n",
    "no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "deep": b"[" * 200_000,
    "a long integer": b"1" * 10_000,
    "half a file": lambda text: text[: len(text) // 2],
    "huge": b" " * (LIMIT_BYTES + 1),
    "another format": lambda text: text.replace(b'"starconv wisdom": 1', b'"starconv wisdom": 2'),
    "another version": lambda text: text.replace(b'"version": "', b'"version": "9'),
    "another processor": lambda text: text.replace(b'"processor": "', b'"processor": "Other '),
    "other features": lambda text: text.replace(b'"features": "', b'"features": "+quantum,'),
    "other cores": lambda text: text.replace(b'"cores": ', b'"cores": 9'),
    "other algorithms": lambda text: text.replace(b'"algorithms": "', b'"algorithms": "magic '),
    "no problems": lambda text: text.replace(b'"problems"', b'"riddles"'),
    "an unknown algorithm": lambda text: text.replace(b'"algorithm": "numpy"', b'"algorithm": "os.system"'),
    "an unknown candidate": lambda text: text.replace(b'"direct": 0.002', b'"magic": 0.002'),
    "an algorithm that was not timed": lambda text: text.replace(b'"numpy": 0.001', b'"stencil": 0.001'),
    "words for seconds": lambda text: text.replace(b"0.002", b'"0.002"'),
    "no seconds": lambda text: text.replace(b'{"direct": 0.002, "numpy": 0.001}', b"null"),
    "infinite seconds": lambda text: text.replace(b"0.002", b"1e999"),
    "no number": lambda text: text.replace(b"0.002", b"NaN"),
    "negative seconds": lambda text: text.replace(b"0.002", b"-0.002"),
    "a list for an algorithm": lambda text: text.replace(b'"algorithm": "numpy"', b'"algorithm": ["numpy"]'),
}


@pytest.mark.parametrize("harm", HOSTILE.values(), ids=HOSTILE.keys())
def test_bad_files_are_ignored_and_replaced(directory, harm):
    fresh().record(PROBLEM, ENTRY)
    path = file_of()
    before = path.read_bytes()
    path.write_bytes(harm(before) if callable(harm) else harm)
    assert path.read_bytes() != before
    assert fresh().find(PROBLEM) is None
    planner.use_wisdom(None)
    assert sc.plan(PROBLEM).measured == ()
    fresh().record(PROBLEM, ENTRY)
    assert fresh().find(PROBLEM) == ENTRY


@pytest.mark.parametrize("name", ["winograd", "numpy"])
def test_an_algorithm_that_refuses_is_not_taken(directory, name):
    problem = PROBLEM + " precision=strict"
    fresh().record(problem, Entry(name, ((name, 1e-9), ("direct", 1.0))))
    planner.use_wisdom(None)
    plan = sc.plan(problem)
    assert plan.algorithm != name
    assert plan.measured == ()


def test_what_another_processor_learnt_is_kept_apart(directory, monkeypatch):
    """Same features, caches and cores, another model: nothing is believed, and nothing is lost."""
    fresh().record(PROBLEM, ENTRY)
    with monkeypatch.context() as patch:
        patch.setattr(machine, "processor_model", lambda: "Another 1 2 3")
        assert fresh().find(PROBLEM) is None
        planner.use_wisdom(None)
        assert sc.plan(PROBLEM).measured == ()
        fresh().record(PROBLEM, ENTRY._replace(algorithm="direct"))
    assert fresh().find(PROBLEM) == ENTRY


@pytest.mark.skipif(os.name != "posix", reason="owners and modes")
def test_files_that_others_may_write_are_not_believed(directory):
    fresh().record(PROBLEM, ENTRY)
    file_of().chmod(0o666)
    assert fresh().find(PROBLEM) is None
    file_of().unlink()
    os.mkfifo(file_of(), 0o600)
    assert fresh().find(PROBLEM) is None


def test_without_a_place_on_disk_it_is_remembered_by_the_process(directory, monkeypatch):
    monkeypatch.setenv("STARCONV_CACHE_DIR", "off")
    learned = fresh()
    learned.record(PROBLEM, ENTRY)
    assert learned.find(PROBLEM) == ENTRY
    assert learned.path() == (None, "switched off by STARCONV_CACHE_DIR=off")
    assert fresh().find(PROBLEM) is None


def test_a_full_disk_harms_nothing(directory, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("starconv.engine.runtime.cache.write_private", full)
    assert sc.plan(PROBLEM, effort="measure").measured
    assert fresh().find(PROBLEM) is None


def test_others_see_each_others_entries_but_keep_their_own_choices(directory):
    one, other = fresh(), fresh()
    one.record("conv1d x=1x1x8 w=1x1x3", ENTRY)
    other.record("conv1d x=1x1x9 w=1x1x3", ENTRY)
    assert other.find("conv1d x=1x1x8 w=1x1x3") is None
    assert len(fresh()) == 2


def test_processes_that_write_at_once_lose_nothing(directory):
    program = """
import sys
from starconv.engine.algorithms import TABLE
from starconv.engine.wisdom import Entry, Wisdom, signature_of
learned = Wisdom.load(signature_of([row.NAME for row in TABLE]))
for size in range(20):
    learned.record(f"conv1d x=1x{sys.argv[1]}x{size + 3} w=1x1x3", Entry("numpy", (("numpy", 1e-3),)))
"""
    writers = [subprocess.Popen([sys.executable, "-W", "error", "-c", program, str(n)]) for n in range(1, 4)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(fresh()) == 60
    assert not list(directory.glob("*.part"))


def test_the_size_is_bounded(directory, monkeypatch):
    learned = Wisdom(signature_of(NAMES), {f"problem {n}": ENTRY for n in range(MOST_ENTRIES)}, keep=False)
    learned.record(PROBLEM, ENTRY)
    assert len(learned) == MOST_ENTRIES
    assert learned.find("problem 0") is None
    assert learned.find(PROBLEM) == ENTRY
    for cores in range(MOST_FILES + 3):
        Wisdom(signature_of(NAMES) | {"cores": cores}).record(PROBLEM, ENTRY)
    assert len(list(directory.glob("wisdom-*.json"))) == MOST_FILES


def test_contenders_are_those_that_may_win():
    def candidate(name, seconds, refusal=None):
        return Candidate(name, refusal, seconds)

    rows = [candidate("a", 0.3), candidate("b", 0.1), candidate("c", 0.6), candidate("d", 0.01, "tired")]
    assert measure.contenders([rows[0], rows[1], rows[2]]) == ["b", "a"]
    assert measure.contenders([candidate("a", 2.0), candidate("b", 0.7)]) == ["b"]
    assert measure.contenders([candidate("a", 2.0)]) == []


def test_an_interrupted_measurement_records_nothing(directory, monkeypatch):
    def interrupted(plans, prepared=False):
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "times", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sc.plan(PROBLEM, effort="measure")
    assert len(fresh()) == 0
