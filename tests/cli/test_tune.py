"""`starconv tune`: what it measures, shows and keeps; wrong files; Ctrl-C."""

import numpy as np
import pytest

import starconv as sc
from starconv import nets
from starconv.engine import measure, planner
from starconv.engine.algorithms import TABLE
from starconv.engine.operations import WRITE_BOTH
from starconv.engine.wisdom import Wisdom, signature_of

ONE = "conv2d x=1x8x12x12 w=8x8x3x3 padding=1"
TWO = "conv1d x=2x4x30 w=4x4x3"
NAMES = [row.NAME for row in TABLE]


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """A cache of its own, and times that are no times."""
    path = tmp_path / "cache"
    monkeypatch.setenv("STARCONV_CACHE_DIR", str(path))
    monkeypatch.setattr(
        measure, "times", lambda plans, prepared=False: {name: 1e-3 + 1e-3 * n for n, name in enumerate(plans)}
    )
    planner.use_wisdom(None)
    yield path
    planner.use_wisdom(Wisdom(signature_of(NAMES), keep=False))


def kept():
    return Wisdom.load(signature_of(NAMES))


def test_problems_are_measured_and_kept(run, directory):
    output = run("tune", ONE, TWO).stdout
    lines = output.splitlines()
    assert lines[0].split() == ["problem", "by", "prediction", "fastest", "time", "gain"]
    assert lines[1].startswith(ONE)
    assert lines[1].split()[-3:] == ["1", "ms", "1.00x"]
    assert lines[-1].startswith(f"2 measured problems in {directory}")
    assert len(kept()) == 2
    assert "measured: " in run("explain", ONE).stdout
    assert "2 problems (starconv tune)" in run("doctor").stdout


def test_gain_is_that_over_the_prediction(run, monkeypatch):
    monkeypatch.setattr(
        measure, "times", lambda plans, prepared=False: {name: 1.0 / (n + 1) for n, name in enumerate(plans)}
    )
    first, *_, last = measure.contenders(sc.plan(ONE).candidates)
    line = run("tune", ONE).stdout.splitlines()[1].removeprefix(ONE).split()
    assert line[:2] == [first, last]
    assert float(line[-1].removesuffix("x")) >= 2
    assert sc.plan(ONE).algorithm == last


def test_a_file_of_problems(run, tmp_path):
    path = tmp_path / "layers.txt"
    path.write_text(f"# layers\n\n{ONE}  # the first, x4\n{TWO}\n{ONE}\n")
    assert len(run("tune", path).stdout.splitlines()) == 4
    assert len(kept()) == 2


def test_what_is_known_is_shown_and_not_measured_again(run, monkeypatch):
    run("tune", ONE)
    monkeypatch.setattr(measure, "times", None)
    assert "(known)" in run("tune", ONE).stdout
    monkeypatch.setattr(measure, "times", lambda plans, prepared=False: dict.fromkeys(plans, 7.0))
    assert " 7 s " in run("tune", ONE, "--again").stdout


def test_ctrl_c_keeps_what_was_measured(run, monkeypatch):
    times = measure.times

    def interrupted(plans, prepared=False):
        if next(iter(plans.values())).problem.spatial == 1:
            raise KeyboardInterrupt
        return times(plans)

    monkeypatch.setattr(measure, "times", interrupted)
    result = run("tune", ONE, TWO, code=130)
    assert "interrupted: 1 of 2 problems measured and kept" in result.stderr
    assert ONE in result.stdout
    assert TWO not in result.stdout
    assert len(kept()) == 1


def test_without_a_place_to_keep_it(run, monkeypatch):
    monkeypatch.setenv("STARCONV_CACHE_DIR", "off")
    result = run("tune", ONE)
    assert ONE in result.stdout
    assert "nothing is kept: the cache is switched off by STARCONV_CACHE_DIR=off" in result.stderr


def test_a_problem_with_one_candidate(run, monkeypatch):
    monkeypatch.setattr(measure, "contenders", lambda candidates: ["numpy"])
    assert "nothing to compare" in run("tune", ONE).stdout
    assert len(kept()) == 0


@pytest.fixture
def model(tmp_path):
    """A file with three convolutions, two of them alike, for pictures of any size."""
    builder = nets.Builder("tiny")
    random = np.random.default_rng(0)
    x = builder.input("x", np.float32, (1, 8, "H", "W"))
    for name in ("a", "b", "c"):
        size = 1 if name == "c" else 3
        weights = builder.constant(f"{name}.w", random.standard_normal((8, 8, size, size), np.float32))
        x = builder.add("Conv", x, weights, name=name, pads=(size // 2,) * 4)
        x = builder.add("Sigmoid", x)
    path = tmp_path / "tiny.onnx"
    nets.Network(builder.graph(x)).to_onnx(path)
    return path


def test_a_network_is_tuned_layer_by_layer_and_takes_what_was_measured(run, model, directory, monkeypatch):
    def times(plans, prepared):
        """Another than the predicted one, of those that write either layout."""
        assert prepared
        return {name: 1.0 if n == 0 else 0.5 if name in WRITE_BOTH else 0.8 for n, name in enumerate(plans)}

    monkeypatch.setattr(measure, "times", times)
    x = np.random.default_rng(1).standard_normal((1, 8, 12, 12), np.float32)
    before = nets.load(model)
    expected = before(x)
    old = {one.name: one.how() for one in before.program(x.shape).operations if one.name in "abc"}
    lines = run("tune", model, "--input", "1x8x12x12").stdout.splitlines()
    assert len(lines) == 1 + 2 + 2
    assert lines[-2] == f"{model}: 3 of 3 layers measured, 2 different ones"
    assert lines[-1].startswith(f"2 measured problems in {directory}")
    assert len(kept()) == 2
    # A new process would read the file.
    planner.use_wisdom(None)
    network = nets.load(model)
    layers = {one.name: one.prepared for one in network.program(x.shape).operations if one.name in "abc"}
    for name, layer in layers.items():
        entry = kept().find(f"{layer.plan.problem} prepared")
        assert layer.algorithm == entry.algorithm != old[name]
    np.testing.assert_allclose(network(x), expected, rtol=1e-4, atol=1e-5)
    assert sc.plan(layers["a"].plan.problem).measured == ()


def test_a_network_and_problems_together(run, model, tmp_path):
    path = tmp_path / "layers.txt"
    path.write_text(f"{ONE}\n{TWO}\n")
    output = run("tune", model, path, "-i", "1x8x12x12").stdout
    assert "4 measured problems in" in output
    output = run("tune", model, path, "-i", "1x8x12x12").stdout
    assert f"{model}: 3 of 3 layers measured, 2 different ones, 2 before" in output
    assert output.count("(known)") == 4


def test_a_network_by_name(run, monkeypatch):
    monkeypatch.setattr(measure, "contenders", lambda candidates: ["direct"])
    output = run("tune", "squeezenet1_1", "--input", "1x3x64x64").stdout
    assert "squeezenet1_1: 0 of 26 layers measured, 0 different ones; 26 with nothing to compare" in output


def test_wrong_networks(run, model, tmp_path):
    assert "'resnet19': expected a problem, a text file of problems, a file .onnx, 'resnet18'" in (
        run("tune", "resnet19", code=2).stderr
    )
    assert "No such file or directory" in run("tune", tmp_path / "none.onnx", code=1).stderr
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"conv2d")
    assert "broken.onnx" in run("tune", broken, code=2).stderr
    assert (
        "input = '1x7x12x12': expected x: float32 (1, 8, H, W)"
        in run("tune", model, "--input", "1x7x12x12", code=2).stderr
    )
    assert "input = '12': expected nothing without a network" in run("tune", ONE, "--input", "12", code=2).stderr
    builder = nets.Builder("plain")
    x = builder.input("x", np.float32, (1, 2))
    nets.Network(builder.graph(builder.add("Relu", x))).to_onnx(tmp_path / "plain.onnx")
    assert "expected a network with convolutions" in run("tune", tmp_path / "plain.onnx", code=2).stderr
    assert len(kept()) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"conv2d x=1x8x12x12 w=8x7x3x3\n", "layers.txt:1': expected a problem in every line; w = (8, 7, 3, 3)"),
        (b"\n# note\nlorem\n", "layers.txt:3': expected a problem in every line; problem = 'lorem'"),
        (b"\xff\x00", "expected a text file with one problem per line"),
        (b"#" * (1 << 20) + b"\n", "of at most 1,048,576 bytes"),
    ],
)
def test_wrong_files(run, tmp_path, content, message):
    path = tmp_path / "layers.txt"
    path.write_bytes(content)
    assert message in run("tune", path, code=2).stderr
    assert len(kept()) == 0


def test_wrong_arguments(run, tmp_path):
    assert "No such file or directory" in run("tune", tmp_path / "none.txt", code=1).stderr
    assert "problem = 'conv2d x=1'" in run("tune", "conv2d x=1", code=2).stderr
    run("tune", code=2)
