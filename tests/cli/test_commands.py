"""`starconv kernels`, `size` and `doctor`, the help pages, and how fast and how quietly it all starts."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import starconv
from starconv.cli import doctor, parsing
from starconv.cli.application import COMMANDS
from starconv.data.kernels import NAMED_KERNELS, named_kernel


def starconv_process(*arguments, **options):
    command = [sys.executable, "-W", "error", "-m", "starconv.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_help_of_everything(run):
    overview = run("--help").stdout
    for command in ("filter", "kernels", "size", "doctor"):
        assert re.search(rf"\b{command}\b", overview)
        assert f"starconv {command}" in run(command, "-h").stdout
    assert len(COMMANDS) >= 4
    assert "starconv filter photo.jpg -k horizontal-edges --grey --signed" in run("filter", "--help").stdout
    assert "Usage: starconv" in run(code=2).output  # no command: help, and the exit code of a wrong call


def test_version(run):
    assert run("--version").stdout == f"starconv {starconv.__version__}\n"


def test_help_imports_nothing_heavy():
    code = """
import sys
from starconv.cli import main
sys.argv = ["starconv", "--help"]
try:
    main()
except SystemExit:
    heavy = {"matplotlib", "scipy.ndimage", "skimage", "PIL", "tifffile", "png", "llvmlite.binding"}
    print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_in_a_process_of_its_own(picture, tmp_path):
    done = starconv_process("filter", picture, "-k", "-1 0 1", "--signed", "-o", tmp_path / "out.png")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{picture} -> {tmp_path / 'out.png'}: 17 x 12 RGB, 8 bit; grey 128 is 0")
    done = starconv_process("filter", picture, "-k", "nothing", "-o", tmp_path / "out.png")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("kernel = 'nothing': expected one of")
    assert done.stderr.count("\n") == 1


def test_a_reader_who_stops_early_is_no_error():
    done = subprocess.run(
        f"'{sys.executable}' -m starconv.cli kernels {'box:11 ' * 200} | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("box:11  11 x 11, sum 1")
    assert "Traceback" not in done.stderr


def test_kernels_lists_all_with_their_numbers(run):
    shown = run("kernels").stdout
    for known in NAMED_KERNELS.values():
        assert f"{known.usage}  {known.description}" in shown
    assert "-1 -1 -1\n     0  0  0\n     1  1  1\n" in shown
    assert "1/9 1/9 1/9" in shown


def test_kernels_shows_what_is_asked_for(run, tmp_path):
    np.save(tmp_path / "k.npy", np.array([[0.5, -3]]))
    shown = run("kernels", "box:2", "1 0 -1", tmp_path / "k.npy").stdout
    assert "box:2  2 x 2, sum 1\n    1/4 1/4\n    1/4 1/4\n" in shown
    assert "1 0 -1  1 x 3, sum 0\n     1  0 -1\n" in shown
    assert "k.npy  1 x 2, sum -2.5\n    1/2  -3\n" in shown
    lines = run("kernels", "gaussian:100").stdout.splitlines()
    assert lines[:2] == ["gaussian:100  801 x 801, sum 1", "    the middle 11 x 11:"]
    assert [len(line.split()) for line in lines[2:13]] == [11] * 11
    assert lines[7].split()[5] == f"{named_kernel('gaussian:100').max():.4g}"


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["224", "-k", "7", "-s", "2", "-p", "3"], ["output = floor((224 + 3 + 3 - 1*(7 - 1) - 1) / 2) + 1 = 112"]),
        (["5", "-k", "3"], ["output = floor((5 + 0 + 0 - 1*(3 - 1) - 1) / 1) + 1 = 3"]),
        (["10", "-k", "3", "-d", "2", "-p", "same"], ["output = floor((10 + 2 + 2 - 2*(3 - 1) - 1) / 1) + 1 = 10"]),
        (
            ["224x160", "-k", "3x5", "-p", "1:0x2", "-s", "1x2"],
            [
                "height = floor((224 + 1 + 0 - 1*(3 - 1) - 1) / 1) + 1 = 223",
                "width  = floor((160 + 2 + 2 - 1*(5 - 1) - 1) / 2) + 1 = 80",
                "output = 223x80",
            ],
        ),
        (["8x9x10", "-k", "3"], ["depth  = floor((8 + 0 + 0 - 1*(3 - 1) - 1) / 1) + 1 = 6", "output = 6x7x8"]),
        (
            ["112", "-k", "7", "-s", "2", "-p", "3", "--transposed", "--output-padding", "1"],
            ["output = (112 - 1)*2 - 3 - 3 + 1*(7 - 1) + 1 + 1 = 224"],
        ),
        (
            ["4", "-k", "3", "-d", "3", "--transposed", "--output-padding", "2"],
            ["output = (4 - 1)*1 - 0 - 0 + 3*(3 - 1) + 2 + 1 = 12"],
        ),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_size(run, arguments, lines):
    shown = run("size", *arguments).stdout.splitlines()
    assert shown[0].startswith("output = ")
    for line in lines:
        assert line in shown


def test_the_numbers_in_the_formula_make_the_result(run):
    """Python's own arithmetic on the line that is shown, against the size that is shown."""
    random = np.random.default_rng(0)
    for _ in range(40):
        size, kernel, stride, before, after, dilation = (int(random.integers(1, high)) for high in (60, 6, 5, 4, 4, 4))
        arguments = [f"{size + 16}", "-k", kernel, "-s", stride, "-p", f"{before}:{after}", "-d", dilation]
        transposed = ["--transposed", "--output-padding", max(stride, dilation) - 1] if random.random() < 0.5 else []
        line = run("size", *arguments, *transposed).stdout.splitlines()[1]
        _, formula, result = line.split(" = ")
        assert eval(formula, {"floor": np.floor}) == int(result)  # a line that this test has just made
        assert int(result) == starconv.output_size(
            size + 16,
            kernel,
            stride,
            [(before, after)],
            dilation,
            transposed=bool(transposed),
            output_padding=transposed[-1] if transposed else 0,
        )


def test_chain(run):
    layers = ("conv1: k7 s2 p3", "pool: k3 s2 p1", "k3 p1:0 d2")
    shown = run("size", "224", *(word for layer in layers for word in ("--layer", layer))).stdout
    rows = [[cell.strip() for cell in re.split("[│|]", line)[1:-1]] for line in shown.splitlines() if "│" in line]
    assert rows == [
        ["input", "", "", "", "", "224", "1", "1"],
        ["conv1", "7", "2", "3", "1", "112", "7", "2"],
        ["pool", "3", "2", "1", "1", "56", "11", "4"],
        ["3", "3", "1", "1:0", "2", "53", "27", "4"],
    ]
    assert "One output element sees 27 input elements; its neighbour sees the same, moved by 4." in shown
    assert "The first one starts at -9 (below 0 is padding)." in shown
    assert "9x11" in run("size", "20x20", "--layer", "k3x5", "--layer", "k7").stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k3", ("1", 3, 1, 0, 1)),
        ("k3x5 s2x1 p1x2 d2", ("1", (3, 5), (2, 1), (1, 2), 2)),
        ("K3 P1:2", ("1", 3, 1, ((1, 2),), 1)),
        ("k=3, s=2", ("1", 3, 2, 0, 1)),
        ("my layer: k3 psame", ("my layer", 3, 1, "same", 1)),
        ("down:k3 p1:2x0", ("down", 3, 1, ((1, 2), (0, 0)), 1)),
    ],
)
def test_layer_syntax(text, expected):
    assert tuple(parsing.layer(text, 1)) == expected


def test_doctor(run):
    shown = run("doctor").stdout
    for word in ("starconv", starconv.__version__, "python", "numpy", np.__version__, "scipy", "llvmlite", "model"):
        assert word in shown
    report = json.loads(run("doctor", "--json").stdout)
    assert set(report) == {"Versions", "Processor", "Compiled kernels", "Optional parts"}
    assert set(report["Processor"]) == {"model", "architecture", "cores", "features", "caches"}
    assert report["Compiled kernels"]["available"].startswith(("yes", "no: "))
    assert "pillow" in report["Optional parts"]["view"]
    assert "scikit-image" in report["Optional parts"]["tour"]
    assert not {"test", "check", "all"} & set(report["Optional parts"])


def test_doctor_says_why_not_and_what_is_missing(run, monkeypatch, tmp_path):
    from starconv.engine.runtime import jit

    monkeypatch.setattr(jit, "available", lambda: "compiled code is forbidden here")
    monkeypatch.setenv("STARCONV_CACHE_DIR", "off")
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "tifffile" else real(name))
    report = json.loads(run("doctor", "--json").stdout)
    assert report["Compiled kernels"]["available"].startswith("no: compiled code is forbidden here; everything runs on")
    assert "not used: switched off" in report["Compiled kernels"]["cache"]
    assert 'missing tifffile: pip install "starconv[view]"' in report["Optional parts"]["view"]
    assert '"starconv[view]"' in run("doctor").stdout  # not taken for markup


def test_doctor_finds_the_name_of_the_processor(tmp_path):
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nmodel\t\t: 154\nmodel name\t: Some CPU @ 2 GHz\n\nprocessor\t: 1\n")
    assert doctor._model_name(listing) == "Some CPU @ 2 GHz"
    assert doctor._model_name(tmp_path / "missing")
