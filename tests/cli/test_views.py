"""The commands that draw: every example in their help runs, and wrong calls say what was expected."""

import importlib
import re
import shlex
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from starconv.cli.views import _EXAMPLES
from starconv.data.images import write_image

EXAMPLES = [(command, arguments) for command, lines in _EXAMPLES.items() for arguments in lines]


@pytest.mark.parametrize(("command", "arguments"), EXAMPLES)
def test_the_examples_run(command, arguments, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    colours = np.random.default_rng(0).integers(0, 256, (40, 44, 3), dtype=np.uint8)
    write_image("photo.png", colours)
    write_image("photo.jpg", colours)
    words = shlex.split(arguments)
    result = run(command, *words)
    assert f"wrote {words[-1]}" in result.output
    assert (tmp_path / words[-1]).stat().st_size > 1000


@pytest.mark.parametrize("command", _EXAMPLES)
def test_the_help_shows_the_examples_and_the_shared_options(command, run):
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", run(command, "--help").output).split())
    for arguments in _EXAMPLES[command]:
        assert f"starconv {command} {arguments}" in text
    for option in ("--input", "--kernel", "--stride", "--padding", "--dilation", "--output", "--theme"):
        assert option in text


def test_the_seed_decides_generated_numbers(run, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run("matrix", "--seed", seed, "-o", tmp_path / f"{name}.svg")
    a, b, c = ((tmp_path / f"{name}.svg").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["field"], "layer = None"),
        (["field", "-k", "3x3", "-l", "pool 2x2"], "--kernel or --layer, not both"),
        (["field", "-l", "pool 2x2", "--at", "99x0"], "at = "),
        (["shapes", "--input", "3x8x8"], "layer = None"),
        (["shapes", "--input", "3x8x8", "-k", "4x2x3x3"], "kernel = (4, 2, 3, 3)"),
        (["matrix", "--input", "90x90"], "4,000,000"),
        (["channels", "--bias", "one"], "bias"),
        (["channels", "--outputs", "0-"], "outputs = '0-': expected numbers and ranges"),
        (["channels", "--outputs", "5"], "output_channels"),
        (["template", "--theme", "blue"], "theme"),
        (["equivariance", "--shift", "99"], "shift"),
        (["gradient", "--tap", "a"], "tap"),
    ],
)
def test_wrong_calls(arguments, message, run, tmp_path):
    result = run(*arguments, "-o", tmp_path / "x.png", code=2)
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "x.png").exists()


def test_a_suffix_that_cannot_be_written_is_refused(run, tmp_path):
    assert "'.png'" in run("matrix", "-o", tmp_path / "x.gif", code=2).stderr


def test_channels_draws_the_channels_that_are_named(run, tmp_path, monkeypatch):
    drawn = []

    def noted(*arguments, **options):
        drawn.append((options["input_channels"], options["output_channels"]))
        return channels_module.channels(*arguments, **options)

    channels_module = importlib.import_module("starconv.view.channels")
    monkeypatch.setitem(sys.modules, "starconv.view.channels", SimpleNamespace(channels=noted))
    some = ("--input", "8x6x6", "--kernel", "16x8x3x3", "--inputs", "0,3", "--outputs", "5,12-13")
    run("channels", *some, "-o", tmp_path / "some.png")
    run("channels", "-o", tmp_path / "first.png")
    assert drawn == [([0, 3], [5, 12, 13]), (None, None)]


def test_kernels_of_a_layer_come_from_a_file(run, tmp_path):
    np.save(tmp_path / "kernels.npy", np.arange(36).reshape(2, 2, 3, 3))
    result = run("channels", "--input", "2x5x5", "--kernel", tmp_path / "kernels.npy", "-o", tmp_path / "sum.png")
    assert "2×5×5 → 2×3×3" in result.output
