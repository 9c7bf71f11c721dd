"""Kernels by name, from text and from files: values, and the message for every kind of mistake."""

import numpy as np
import pytest
from scipy import ndimage

from starconv import ArgumentTypeError, ArgumentValueError
from starconv.data.files import FileContentError
from starconv.data.kernels import NAMED_KERNELS, format_kernel, named_kernel, parse_kernel


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("horizontal-edges", [[-1, -1, -1], [0, 0, 0], [1, 1, 1]]),
        ("vertical-edges", [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]]),
        ("sobel-x", [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
        ("sobel-y", [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
        ("laplacian", [[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
        ("sharpen", [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
        ("emboss", [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]),
        ("identity", [[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
        ("box:2", [[0.25, 0.25], [0.25, 0.25]]),
        ("box:1", [[1]]),
        (" Sobel_X ", [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    ],
)
def test_named(name, rows):
    kernel = named_kernel(name)
    assert kernel.dtype == np.float64
    np.testing.assert_array_equal(kernel, rows)


@pytest.mark.parametrize("sigma", ["0.3", "1", "1.5", "4"])
def test_gaussian_is_that_of_scipy(sigma):
    impulse = np.zeros((41, 41))
    impulse[20, 20] = 1
    kernel = named_kernel(f"gaussian:{sigma}")
    radius = kernel.shape[0] // 2
    expected = ndimage.gaussian_filter(impulse, float(sigma), mode="constant")
    np.testing.assert_allclose(kernel, expected[20 - radius : 21 + radius, 20 - radius : 21 + radius], atol=1e-16)
    assert kernel.sum() == pytest.approx(1, abs=1e-14)
    assert np.count_nonzero(expected) == np.count_nonzero(kernel)


@pytest.mark.parametrize("known", NAMED_KERNELS.values(), ids=lambda known: known.name)
def test_every_kernel_has_a_sample_a_description_and_an_array_of_its_own(known):
    first, second = named_kernel(known.sample), parse_kernel(known.sample)
    np.testing.assert_array_equal(first, second)
    first[:] = 7
    assert not np.array_equal(first, named_kernel(known.sample))
    assert known.description
    assert "\n" not in known.description


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("1 0 -1; 2 0 -2; 1 0 -1", [[1, 0, -1], [2, 0, -2], [1, 0, -1]]),
        ("1,0,-1;2,0,-2", [[1, 0, -1], [2, 0, -2]]),
        ("1, 2; 3, 4;", [[1, 2], [3, 4]]),
        ("1 2\n3 4", [[1, 2], [3, 4]]),
        ("-1 0 1", [[-1, 0, 1]]),
        ("1/9 -1/9", [[1 / 9, -1 / 9]]),
        ("1;2;3", [[1], [2], [3]]),
        (".5 1e-3 +2", [[0.5, 1e-3, 2]]),
        ("−1 0 1", [[-1, 0, 1]]),
        ("7", [[7]]),
    ],
)
def test_matrix(text, rows):
    np.testing.assert_array_equal(parse_kernel(text), np.array(rows, dtype=float))


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("k.csv", "1,0,-1\n2,0,-2\n", [[1, 0, -1], [2, 0, -2]]),
        ("k.csv", "1;0;-1\n2;0;-2\n", [[1, 0, -1], [2, 0, -2]]),
        ("k.csv", "1\t0\r\n2\t1/4\r\n", [[1, 0], [2, 0.25]]),
        ("k.csv", "﻿1,2,\n3,4,\n", [[1, 2], [3, 4]]),
        ("k.txt", "# Sobel\n1 0 -1  # first\n\n2 0 -2\n", [[1, 0, -1], [2, 0, -2]]),
        ("k.txt", "1 0 -1; 2 0 -2", [[1, 0, -1], [2, 0, -2]]),
        ("k.TXT", "1 0 -1;\n2 0 -2;\n", [[1, 0, -1], [2, 0, -2]]),
    ],
)
def test_text_file(tmp_path, name, content, rows):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    np.testing.assert_array_equal(parse_kernel(str(path)), np.array(rows, dtype=float))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", ">f8", "bool"])
def test_npy_file(tmp_path, dtype):
    path = tmp_path / "k.npy"
    np.save(path, np.array([[1, 0], [1, 1]]).astype(dtype))
    kernel = parse_kernel(str(path))
    np.testing.assert_array_equal(kernel, [[1, 0], [1, 1]])
    assert kernel.dtype == np.float64
    assert kernel.flags.writeable
    assert not isinstance(kernel, np.memmap)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("horizontal-edge", r"^kernel = 'horizontal-edge': expected one of .*; did you mean 'horizontal-edges'\?$"),
        ("gausian:2", r"did you mean 'gaussian:SIGMA'\?"),
        ("qqqq", r"^kernel = 'qqqq': expected one of horizontal-edges, .*box:N.*\.npy, \.csv or \.txt file$"),
        ("sobel", r"did you mean 'sobel-"),
        ("box", r"^kernel = 'box': expected box:N, for example box:3$"),
        ("box:", r"expected box:N, for example"),
        ("box:0", r"^kernel = 'box:0': expected box:N with an integer N from 1 to 1001"),
        ("box:2.5", r"^kernel = 'box:2.5': expected box:N with an integer N"),
        ("box:99999999", r"from 1 to 1001"),
        ("gaussian:-1", r"^kernel = 'gaussian:-1': expected gaussian:SIGMA in pixels with 0 < SIGMA <= 125"),
        ("gaussian:nan", r"0 < SIGMA"),
        ("gaussian:1e9", r"0 < SIGMA <= 125"),
        ("gaussian:wide", r"^kernel = 'gaussian:wide': expected gaussian:SIGMA"),
        ("identity:3", r"^kernel = 'identity:3': expected identity without a parameter"),
        ("", r"^kernel = '': expected at least one number"),
        (" ; ", r"expected at least one number"),
        ("1 2; 3", r"^kernel = '1 2; 3': expected as many numbers in every row, found rows of 2, 1"),
        ("1;;2", r"found rows of 1, 0, 1"),
        ("1 2; 3 four", r"expected numbers such as 1, -0.5 or 1/9, found 'four' in row 2"),
        ("1 1/0", r"found '1/0' in row 1"),
        ("1,,2", r"expected a number between every two commas, found '1,,2' in row 1"),
        ("nan 1", r"expected finite numbers, found nan in row 1, column 1"),
        ("1 2; 3 inf", r"found inf in row 2, column 2"),
        ("__import__('os')", r"^kernel = .*: expected one of"),
        ("1+1 2", r"found '1\+1' in row 1"),
        ("some/where", r"expected a kernel file that ends with \.npy, \.csv or \.txt"),
        (" ".join(["1"] * 1002), r"at most 1001 rows and columns, found shape \(1, 1002\)"),
    ],
)
def test_wrong_text(text, message):
    with pytest.raises(ArgumentValueError, match=message):
        parse_kernel(text)


@pytest.mark.parametrize("call", [named_kernel, parse_kernel])
def test_not_text(call):
    with pytest.raises(ArgumentTypeError, match=r"^kernel = 3: expected a str"):
        call(3)


class Surprise:
    """What a pickle in a .npy file could do."""

    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("k.csv", b"1,2\n3\n", r"as many numbers in every row, found rows of 2, 1"),
        ("k.csv", b"", r"at least one number"),
        ("k.csv", b"a,b\n1,2\n", r"found 'a' in row 1"),
        ("k.csv", b"\xff\xfe1\x00", r"text in UTF-8"),
        ("k.txt", b"1 2\n3 nan\n", r"finite numbers, found nan in row 2, column 2"),
        ("k.npy", b"", r"a \.npy file with one array of numbers"),
        ("k.npy", b"not numpy", r"a \.npy file with one array of numbers"),
        ("k.npy", np.zeros(3), r"two axes \(rows, columns\), found shape \(3,\)"),
        ("k.npy", np.zeros((1, 2, 3)), r"two axes .* found shape \(1, 2, 3\)"),
        ("k.npy", np.zeros((0, 3)), r"at least one number, found shape \(0, 3\)"),
        ("k.npy", np.array([[1j]]), r"real numbers, found dtype complex128"),
        ("k.npy", np.array([["a"]]), r"real numbers, found dtype <U1"),
        ("k.npy", np.array([[np.inf]]), r"finite numbers, found inf"),
        ("k.npy", np.zeros((2000, 1)), r"at most 1001 rows and columns, found shape \(2000, 1\)"),
        ("k.npy", np.array([[Surprise()]], dtype=object), r"a \.npy file with one array of numbers"),
    ],
)
def test_wrong_file(tmp_path, capsys, name, content, message):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(FileContentError, match=message) as caught:
        parse_kernel(str(path))
    assert str(caught.value).startswith(f"{path}: expected a kernel: ")
    assert capsys.readouterr().out == ""


def test_archive_is_no_kernel(tmp_path):
    path = tmp_path / "k.npy"
    with open(path, "wb") as file:
        np.savez(file, a=np.eye(3), b=np.eye(3))
    with pytest.raises(FileContentError, match=r"one array, found an archive of several"):
        parse_kernel(str(path))


def test_missing_file():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        parse_kernel("nowhere.csv")


def test_shown_numbers_are_those_of_the_kernel():
    assert format_kernel(np.array([[1.0, -2.0, 0.0], [1 / 9, -0.25, 0.3], [1 / 9 + 1e-15, 1e9, 1e-300]])) == [
        ["1", "-2", "0"],
        ["1/9", "-1/4", "0.3"],
        ["0.1111", "1e+09", "1e-300"],
    ]
