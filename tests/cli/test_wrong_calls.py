"""Wrong calls of the command line: one line with the argument or path and what was expected, and the exit code."""

import subprocess
import sys

import numpy as np
import pytest

from starconv.data.images import write_image

FILTER = ("filter", "a.png", "-o", "out.png", "-k")
WRONG_CALLS = [
    # arguments, exit code, what standard error contains
    ((*FILTER, "horizontal-edgs"), 2, "kernel = 'horizontal-edgs': expected one of horizontal-edges"),
    ((*FILTER, "horizontal-edgs"), 2, "did you mean 'horizontal-edges'?"),
    ((*FILTER, "box"), 2, "kernel = 'box': expected box:N, for example box:3"),
    ((*FILTER, "box:-2"), 2, "kernel = 'box:-2': expected box:N with an integer N from 1"),
    ((*FILTER, "gaussian:0"), 2, "kernel = 'gaussian:0': expected gaussian:SIGMA in pixels with 0 < SIGMA"),
    ((*FILTER, "1 2; 3"), 2, "kernel = '1 2; 3': expected as many numbers in every row, found rows of 2, 1"),
    ((*FILTER, "1 nan"), 2, "kernel = '1 nan': expected finite numbers, found nan in row 1, column 2"),
    ((*FILTER, "1 b"), 2, "kernel = '1 b': expected numbers such as 1, -0.5 or 1/9, found 'b' in row 1"),
    ((*FILTER, ""), 2, "kernel = '': expected at least one number"),
    ((*FILTER, "missing.csv"), 1, "missing.csv: No such file or directory"),
    ((*FILTER, "ragged.csv"), 2, "ragged.csv: expected a kernel: as many numbers in every row, found rows of 2, 1"),
    ((*FILTER, "a.npy"), 2, "a.npy: expected a kernel: two axes (rows, columns), found shape (2, 2, 2)"),
    ((*FILTER, "identity", "-s", "two"), 2, "stride = 'two': expected an integer, or one per axis such as 3x5"),
    ((*FILTER, "identity", "-s", "0"), 2, "stride = 0: expected an integer >= 1 or 2 of them, one per axis"),
    ((*FILTER, "identity", "-s", "1x2x3"), 2, "stride = (1, 2, 3): expected an integer >= 1 or 2 of them"),
    ((*FILTER, "identity", "-p", "some"), 2, "padding = 'some': expected valid, same, full, an integer"),
    ((*FILTER, "identity", "-p", "1:2:3"), 2, "padding = '1:2:3': expected valid, same, full, an integer"),
    ((*FILTER, "identity", "-p", "-1"), 2, "padding = -1: expected an integer >= 0"),
    ((*FILTER, "identity", "-d", "1.5"), 2, "dilation = '1.5': expected an integer"),
    ((*FILTER, "box:9", "-p", "valid"), 1, "a.png: kernel_size = (9, 9): expected at most the padded input"),
    (
        (*FILTER, "identity", "--border", "black"),
        2,
        "border = 'black': expected one of reflect, grid-mirror, mirror, nearest",
    ),
    ((*FILTER, "identity", "--scale", "nan"), 2, "scale = nan: expected a finite number"),
    ((*FILTER, "identity", "--scale", "big"), 2, "Invalid value for '--scale'"),
    ((*FILTER, "identity", "--depth", "32"), 2, "depth = '32': expected 8, 16 or float"),
    ((*FILTER, "identity", "--depth", "float"), 1, "out.png: expected 8 or 16-bit values, which PNG can hold"),
    (("filter", "a.png", "-k", "identity", "-o", "a.gif"), 2, "a.gif: expected a name that ends with one of .png"),
    (("filter", "a.png", "-k", "identity", "-o", ""), 2, "out = '': expected a file, a directory or a pattern"),
    (("filter", "a.png", "-k", "identity", "-o", "{size}.png"), 2, "found {size}"),
    (("filter", "a.png", "-k", "identity", "-o", "{stem.png"), 2, "out = '{stem.png': expected a pattern with {stem}"),
    (("filter", "a.png", "-k", "identity", "-o", "{stem}.bmp"), 2, "a.bmp: expected a name that ends with one of"),
    (("filter", "a.png", "-k", "identity", "-o", "./no/such/out.png"), 1, "no/such: No such directory"),
    (
        ("filter", "a.png", "b.png", "-k", "identity", "-o", "out.png"),
        2,
        "out = 'out.png': expected a directory such as",
    ),
    (
        ("filter", "a.png", "d/a.png", "-k", "identity", "-o", "out/"),
        2,
        "a.png and d/a.png would both become out/a.png",
    ),
    (("filter", "a.png", "b.png", "-k", "identity", "-o", "b{suffix}"), 2, "a.png would overwrite b.png"),
    (("filter", "missing.png", "-k", "identity", "-o", "out.png"), 1, "missing.png: No such file or directory"),
    (
        ("filter", "d", "-k", "identity", "-o", "out.png"),
        1,
        "d: expected a picture (PNG, JPEG, TIFF or .npy), not a dir",
    ),
    (("filter", "ragged.csv", "-k", "identity", "-o", "out.png"), 1, "ragged.csv: expected a picture"),
    (("filter", "a.png", "-k", "identity"), 2, "Missing option '-o' / '--out'"),
    (("filter", "a.png", "-o", "out.png"), 2, "Missing option '-k' / '--kernel'"),
    (("filter", "-k", "identity", "-o", "out.png"), 2, "Missing argument 'IMAGE'"),
    (("size",), 2, "Missing argument 'SIZE'"),
    (("size", "224"), 2, "kernel = None: expected the kernel's size, -k 7"),
    (("size", "large", "-k", "3"), 2, "size = 'large': expected an integer, or one per axis such as 3x5"),
    (("size", "5", "-k", "7"), 2, "kernel_size = (7,): expected at most the padded input"),
    (("size", "5", "-k", "0"), 2, "kernel = 0: expected an integer >= 1"),
    (("size", "5x5", "-k", "3x3x3"), 2, "kernel = (3, 3, 3): expected an integer >= 1 or 2 of them"),
    (("size", "5", "-k", "3", "-s", "0"), 2, "stride = 0: expected an integer >= 1"),
    (("size", "5", "-k", "3", "-p", "-1"), 2, "padding = -1: expected an integer >= 0"),
    (("size", "5", "-k", "3", "--output-padding", "1"), 2, "output_padding = '1': expected 0 unless --transposed"),
    (("size", "5", "-k", "3", "--transposed", "--output-padding", "1"), 2, "output_padding = (1,): expected less than"),
    (("size", "5", "-k", "3", "-p", "same", "--transposed"), 2, "padding = 'same': expected an integer"),
    (("size", "5", "--layer", "s2"), 2, "layer = 's2': expected k, s, p and d with their numbers"),
    (("size", "5", "--layer", "k3 z1"), 2, "found 'z1'"),
    (("size", "5", "--layer", "k3 k5"), 2, "found 'k5'"),
    (("size", "5", "--layer", "k3", "-k", "3"), 2, "layer = 'k3': expected no other option beside --layer"),
    (("size", "5", "--layer", "k3", "--layer", "k4"), 2, "kernel_size = (4,): expected at most the padded input"),
    (("kernels", "sobel"), 2, "did you mean 'sobel-"),
    (("kernles",), 2, "No such command 'kernles'. Did you mean 'kernels'?"),
    (("--colour",), 2, "No such option: --colour"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    for name in ("a.png", "b.png", "d/a.png"):
        write_image(name, np.zeros((6, 8), np.uint8))
    (tmp_path / "ragged.csv").write_text("1,2\n3\n")
    np.save("a.npy", np.zeros((2, 2, 2)))
    return tmp_path


@pytest.mark.parametrize(("arguments", "code", "message"), WRONG_CALLS, ids=lambda value: str(value)[:60])
def test_wrong_call(run, folder, arguments, code, message):
    before = sorted(folder.iterdir())
    result = run(*arguments, code=code)
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(("arguments", "code", "message"), WRONG_CALLS[:20], ids=lambda value: str(value)[:60])
def test_errors_of_ours_are_one_line_however_narrow_the_terminal(run, folder, monkeypatch, arguments, code, message):
    monkeypatch.setenv("COLUMNS", "20")
    assert len(run(*arguments, code=code).stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [("--debug", *FILTER, "bxo:2"), (*FILTER, "bxo:2", "--debug"), (*FILTER, "box:9", "-p", "valid", "--debug")],
)
def test_debug_shows_the_traceback(folder, arguments):
    done = subprocess.run(
        [sys.executable, "-m", "starconv.cli", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "ArgumentValueError: kernel" in done.stderr


def test_debug_after_two_dashes_is_a_file_name(run, folder):
    result = run("filter", "-k", "identity", "-o", "out/", "--", "--debug", "a.png", code=1)
    assert result.stderr.splitlines()[0] == "--debug: No such file or directory"
