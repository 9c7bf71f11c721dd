"""`starconv filter` as its user sees it: pictures in, pictures out, and what is said about them."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import starconv
from starconv.data.images import Image, read_image, to_grey, write_image
from starconv.data.kernels import named_kernel


def clipped(values, largest=255):
    return np.rint(values).clip(0, largest)


@pytest.mark.parametrize(
    "border", ["reflect", "mirror", "nearest", "wrap", "constant", "grid-mirror", "grid-wrap", "grid-constant"]
)
@pytest.mark.parametrize("kernel", ["sharpen", "gaussian:1.2", "1 2 3 4 5; 0 -1 0 1 0; 1/2 0 -3 0 0", "1 0 -1"])
def test_default_size_and_borders_are_those_of_scipy(run, picture, tmp_path, kernel, border):
    from starconv.data.kernels import parse_kernel

    run("filter", picture, "-k", kernel, "--border", border, "-o", tmp_path / "out.png")
    source, result = read_image(picture).array.astype(float), read_image(tmp_path / "out.png").array
    for channel in range(3):
        expected = ndimage.correlate(source[..., channel], parse_kernel(kernel), mode=border)
        np.testing.assert_allclose(result[..., channel], clipped(expected), atol=1 if "gaussian" in kernel else 0)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["--stride", "2"], {"stride": 2, "padding": "same"}),
        (["-s", "2x3", "-p", "1"], {"stride": (2, 3), "padding": 1}),
        (["-p", "valid"], {}),
        (["-p", "full", "--border", "zeros"], {"padding": "full", "padding_mode": "zeros"}),
        (["-p", "0:2x1:0"], {"padding": ((0, 2), (1, 0))}),
        (["-d", "2", "-p", "2"], {"dilation": 2, "padding": 2}),
    ],
)
def test_stride_and_padding_are_those_of_conv2d(run, picture, tmp_path, arguments, options):
    run("filter", picture, "-k", "emboss", *arguments, "-o", tmp_path / "out.png")
    kernels = np.broadcast_to(named_kernel("emboss"), (3, 1, 3, 3))
    source = read_image(picture).array.transpose(2, 0, 1).astype(float)
    expected = starconv.conv2d(source, kernels, groups=3, **({"padding_mode": "symmetric"} | options))
    np.testing.assert_array_equal(read_image(tmp_path / "out.png").array.transpose(2, 0, 1), clipped(expected))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(9, 6), (9, 6, 3)], ids=str)
def test_identity_keeps_every_value_alpha_and_depth(run, tmp_path, suffix, dtype, shape):
    if (suffix, dtype) == (".png", "float32"):
        suffix = ".tiff"
    scale = 1 if dtype == "float32" else np.iinfo(dtype).max
    random = np.random.default_rng(1)
    image = Image((random.random(shape) * scale).astype(dtype), (random.random(shape[:2]) * scale).astype(dtype))
    write_image(tmp_path / f"in{suffix}", image)
    run("filter", tmp_path / f"in{suffix}", "-k", "identity", "-o", tmp_path / f"out{suffix}")
    result = read_image(tmp_path / f"out{suffix}")
    np.testing.assert_array_equal(result.array, image.array)
    np.testing.assert_array_equal(result.alpha, image.alpha)
    assert result.array.dtype == dtype


def test_alpha_follows_the_middle_of_the_kernel(run, tmp_path):
    alpha = np.arange(63, dtype=np.uint8).reshape(7, 9)
    write_image(tmp_path / "in.png", Image(np.zeros((7, 9), np.uint8), alpha))
    run("filter", tmp_path / "in.png", "-k", "box:3", "-s", "2", "-p", "1", "-o", tmp_path / "out.png")
    np.testing.assert_array_equal(read_image(tmp_path / "out.png").alpha, alpha[::2, ::2])
    run("filter", tmp_path / "in.png", "-k", "box:3", "-p", "valid", "-o", tmp_path / "out.png")
    np.testing.assert_array_equal(read_image(tmp_path / "out.png").alpha, alpha[1:-1, 1:-1])


def test_both_kinds_of_horizontal_edge_in_light_and_dark(run, tmp_path):
    from starconv.data.synthetic import edges_picture

    write_image(tmp_path / "in.png", edges_picture(12, light=200).astype(np.uint8))
    result = run("filter", tmp_path / "in.png", "-k", "horizontal-edges", "--signed", "-o", tmp_path / "out.png")
    rows = read_image(tmp_path / "out.png").array
    assert (rows == rows[:, :1]).all()
    assert rows[:, 0].tolist() == [128, 128, 128, 255, 255, 128, 128, 1, 1, 128, 128, 128]
    assert "grey 128 is 0, scale 0.2117: ±600 is black and white" in result.stdout
    result = run("filter", tmp_path / "in.png", "-k", "horizontal-edges", "-o", tmp_path / "out.png")
    assert "48 of 144 values clipped (24 below black, 24 above white)" in result.stdout


@pytest.mark.parametrize(
    ("dtype", "middle", "white"), [("uint8", 128, 255), ("uint16", 32768, 65535), ("float32", 0.5, 1)]
)
def test_signed_in_every_depth(run, tmp_path, dtype, middle, white):
    array = np.zeros((5, 5), dtype)
    array[2, 2] = white
    write_image(tmp_path / "in.tif", array)
    arguments = ("filter", tmp_path / "in.tif", "-k", "laplacian", "--signed", "-o", tmp_path / "out.tif")
    run(*arguments)
    result = read_image(tmp_path / "out.tif").array
    assert result[0, 0] == middle
    assert result[2, 2] == pytest.approx(middle - (white - middle))
    assert result[2, 1] == pytest.approx(middle + (white - middle) / 4, abs=0.5 if dtype != "float32" else 1e-6)
    run(*arguments, "--scale", "0.25")
    assert read_image(tmp_path / "out.tif").array[2, 1] == pytest.approx(middle + white / 4, abs=1)


def test_signed_picture_without_any_response_is_grey(run, tmp_path):
    write_image(tmp_path / "in.png", np.full((4, 4), 77, np.uint8))
    run("filter", tmp_path / "in.png", "-k", "laplacian", "--signed", "-o", tmp_path / "out.png")
    assert (read_image(tmp_path / "out.png").array == 128).all()


def test_grey_scale_and_flip(run, picture, tmp_path):
    out = tmp_path / "out.tif"
    result = run("filter", picture, "-k", "1 2; 3 4", "--flip", "--grey", "--scale", "0.1", "-o", out)
    grey = to_grey(read_image(picture).array)
    expected = starconv.conv2d(grey[None], [[[[4, 3], [2, 1]]]], padding="same", padding_mode="symmetric")[0] * 0.1
    np.testing.assert_array_equal(read_image(out).array, clipped(expected))
    above = np.count_nonzero(np.rint(expected) > 255)
    clipping = f"; {above} of 204 values clipped (0 below black, {above} above white)" if above else ""
    assert result.stdout == f"{picture} -> {out}: 17 x 12 grey, 8 bit; scale 0.1{clipping}\n"


@pytest.mark.parametrize(
    ("source", "depth", "suffix", "value", "expected", "note"),
    [
        ("uint8", "16", ".png", 51, 51 * 257, ""),
        ("uint16", "8", ".png", 51 * 257 + 100, 51, ""),
        ("uint16", None, ".jpg", 51 * 257, 51, "JPEG holds 8 bits"),
        ("float32", None, ".png", 0.2, 51, "PNG holds 8 bits"),
        ("float32", "16", ".png", 0.2, 13107, ""),
        ("uint8", "float", ".npy", 51, np.float32(0.2), ""),
        ("float64", None, ".npy", 0.2, 0.2, ""),
        ("float32", None, ".png", 1.5, 255, "25 of 25 values clipped (0 below black, 25 above white)"),
        ("float32", None, ".png", np.nan, 0, "25 values that are not numbers became black"),
        ("float32", None, ".tif", -7.5, -7.5, ""),
    ],
)
def test_depths(run, tmp_path, source, depth, suffix, value, expected, note):
    write_image(tmp_path / "in.npy", np.full((5, 5), value, source))
    options = [] if depth is None else ["--depth", depth]
    result = run("filter", tmp_path / "in.npy", "-k", "identity", *options, "-o", tmp_path / f"out{suffix}")
    assert (read_image(tmp_path / f"out{suffix}").array == expected).all()
    assert note in result.stdout


def test_alpha_that_the_format_cannot_hold_is_dropped_and_that_is_said(run, tmp_path):
    write_image(tmp_path / "in.png", Image(*np.full((2, 8, 8), 90, np.uint8)))
    result = run("filter", tmp_path / "in.png", "-k", "identity", "-o", tmp_path / "out.jpg")
    assert "JPEG holds no alpha" in result.stdout
    assert read_image(tmp_path / "out.jpg").alpha is None


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ("results/", ["results/a.png", "results/b.png"]),
        ("results", ["results/a.png", "results/b.png"]),
        ("deep/er/{stem}-x.tif", ["deep/er/a-x.tif", "deep/er/b-x.tif"]),
        ("{index}{suffix}", ["1.png", "2.png"]),
        ("out-{name}", ["out-a.png", "out-b.png"]),
    ],
)
def test_several_pictures(run, tmp_path, monkeypatch, out, expected):
    monkeypatch.chdir(tmp_path)
    for index, name in enumerate(("a.png", "b.png")):
        write_image(name, np.full((4, 4), index + 1, np.uint8))
    result = run("filter", "a.png", "b.png", "-k", "identity", "-o", out)
    assert [read_image(path).array[0, 0] for path in expected] == [1, 2]
    assert [line.partition(": ")[0] for line in result.stdout.splitlines()] == [
        f"{name} -> {Path(path)}" for name, path in zip(("a.png", "b.png"), expected, strict=True)
    ]
    assert result.stderr == ""


def test_one_unreadable_picture_does_not_stop_the_others(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "c.png"):
        write_image(name, np.zeros((4, 4), np.uint8))
    Path("b.png").write_bytes(Path("a.png").read_bytes()[:40])
    Path("notes.txt").write_text("no picture")
    write_image("tiny.png", np.zeros((1, 1), np.uint8))
    names = ["a.png", "b.png", "missing.png", "notes.txt", "tiny.png", "c.png"]
    result = run("filter", *names, "-k", "box:3", "-p", "valid", "-o", "out/", code=1)
    assert sorted(os.listdir("out")) == ["a.png", "c.png"]
    lines = result.stderr.splitlines()
    assert lines[0].startswith("b.png: expected a complete, undamaged PNG picture")
    assert lines[1] == "missing.png: No such file or directory"
    assert lines[2].startswith("notes.txt: expected a picture (PNG, JPEG, TIFF or .npy); it begins with b'no picture'")
    assert lines[3].startswith("tiny.png: kernel_size = (3, 3): expected at most the padded input")
    assert lines[4:] == ["4 of 6 pictures failed, 2 written"]
    assert len(result.stdout.splitlines()) == 2


def test_an_existing_result_survives_a_failure(run, picture, tmp_path, monkeypatch):
    out = tmp_path / "out.png"
    out.write_bytes(b"precious")
    run("filter", tmp_path / "missing.png", "-k", "identity", "-o", out, code=1)
    assert out.read_bytes() == b"precious"

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device", str(out))

    monkeypatch.setattr("PIL.Image.Image.save", full)
    result = run("filter", picture, "-k", "identity", "-o", out, code=1)
    assert "No space left on device" in result.stderr
    assert out.read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == ["out.png", "picture.png"]


def test_a_picture_can_be_replaced_by_its_result(run, picture):
    before = read_image(picture).array
    run("filter", picture, "-k", "0 0 0; 0 0 1; 0 0 0", "-o", picture)
    np.testing.assert_array_equal(read_image(picture).array[:, :-1], before[:, 1:])


def test_progress_on_a_terminal_only(run, picture, tmp_path, monkeypatch):
    arguments = ("filter", picture, "-k", "identity", "-o", tmp_path / "{index}.png")
    assert run(*arguments).stderr == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR")
    other = tmp_path / "other.png"
    write_image(other, np.zeros((4, 4), np.uint8))
    result = run("filter", picture, other, "-k", "identity", "-o", tmp_path / "out")
    assert "2/2" in result.stderr
    assert "2/2" not in result.stdout
    assert len(result.stdout.splitlines()) == 2


def test_names_that_look_like_markup(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image("[bold]ä.png", np.zeros((4, 4), np.uint8))
    result = run("filter", "[bold]ä.png", "[red]no.png", "-k", "identity", "-o", "{stem}-out.png", code=1)
    assert result.stdout == "[bold]ä.png -> [bold]ä-out.png: 4 x 4 grey, 8 bit\n"
    assert result.stderr.startswith("[red]no.png: No such file or directory\n")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are text there")
def test_names_that_are_no_text(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"caf\xe9.png")
    write_image(name, np.zeros((4, 4), np.uint8))
    result = run("filter", name, os.fsdecode(b"\xff.png"), "-k", "identity", "-o", "out/", code=1)
    assert result.stdout.startswith("caf\\udce9.png -> out/caf\\udce9.png: 4 x 4 grey")
    assert result.stderr.startswith("\\udcff.png: No such file or directory")
    assert os.listdir("out") == [name]


def test_an_error_names_the_users_path_and_no_temporary_file(run, picture, tmp_path, monkeypatch):
    def no_room(path, *arguments, **options):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("starconv.data.files.open", no_room, raising=False)
    out = tmp_path / "out.png"
    result = run("filter", picture, "-k", "identity", "-o", out, code=1)
    assert "out.png: No space left on device" in result.stderr.replace("\n", "")
    assert ".starconv-" not in result.stderr
