"""Pictures in files: every format there and back, orientation, alpha, and the message for every wrong file."""

import io
import os
import stat
import struct
import sys
import zlib

import numpy as np
import png
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps
from skimage import data as skimage_data

from starconv import ArgumentTypeError, ArgumentValueError
from starconv.data import files
from starconv.data.depth import quantise, white
from starconv.data.files import FileContentError, MissingPackageError
from starconv.data.images import Image, astronaut, format_for, read_image, to_grey, write_image

SUFFIX_DTYPES = [
    *((".png", dtype) for dtype in ("uint8", "uint16")),
    *((suffix, dtype) for suffix in (".tif", ".tiff", ".npy") for dtype in ("uint8", "uint16", "float32", "float64")),
]


def pixels(shape, dtype, seed=0):
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return generator.normal(size=shape).astype(dtype)
    return generator.integers(0, np.iinfo(dtype).max, size=shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("alpha", [False, True], ids=["opaque", "alpha"])
@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 3), (1, 1)], ids=str)
@pytest.mark.parametrize(("suffix", "dtype"), SUFFIX_DTYPES)
def test_there_and_back(tmp_path, suffix, dtype, shape, alpha):
    image = Image(pixels(shape, dtype), pixels(shape[:2], dtype, 1) if alpha else None)
    path = tmp_path / f"picture{suffix}"
    write_image(path, image)
    back = read_image(path)
    assert back.array.dtype == dtype
    np.testing.assert_array_equal(back.array, image.array)
    assert (back.alpha is None) == (not alpha)
    if alpha:
        np.testing.assert_array_equal(back.alpha, image.alpha)
    assert back.array.flags.c_contiguous
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3)], ids=str)
def test_jpeg_there_and_back_nearly(tmp_path, shape):
    y, x = np.mgrid[:40, :50]
    array = np.broadcast_to((y * 4 + x).astype(np.uint8)[(...,) + (None,) * (len(shape) - 2)], shape)
    write_image(tmp_path / "a.JPG", array)
    back = read_image(tmp_path / "a.JPG")
    assert back.array.shape == shape
    assert np.abs(back.array.astype(int) - array).max() <= 3


@pytest.mark.parametrize(
    ("interlace", "planes", "transparent"),
    [(False, 1, None), (True, 1, 4660), (False, 2, None), (True, 3, None), (False, 3, (1, 2, 3)), (True, 4, None)],
)
def test_16_bit_png_of_another_writer(tmp_path, interlace, planes, transparent):
    samples = pixels((6, 9, planes), "uint16")
    if transparent is not None:
        samples[2, 3] = transparent
    with open(tmp_path / "a.png", "wb") as file:
        png.Writer(
            9,
            6,
            greyscale=planes < 3,
            alpha=planes in (2, 4),
            bitdepth=16,
            interlace=interlace,
            transparent=transparent,
        ).write(file, samples.reshape(6, -1).tolist())
    image = read_image(tmp_path / "a.png")
    colours = samples[..., :3] if planes >= 3 else samples[..., 0]
    np.testing.assert_array_equal(image.array, colours)
    if planes in (2, 4):
        np.testing.assert_array_equal(image.alpha, samples[..., -1])
    elif transparent is not None:
        assert image.alpha[2, 3] == 0
        assert np.count_nonzero(image.alpha == 65535) == 53
    else:
        assert image.alpha is None


def save(path, array, mode=None, **options):
    picture = Pillow.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "png16", "tiff", "tiff16"])
def test_orientation(tmp_path, kind, orientation):
    array = np.zeros((16, 24, 3), np.uint8)
    array[:8, :8] = 255, 0, 0
    array[8:, 16:] = 0, 255, 0
    path = tmp_path / f"a.{kind.removesuffix('16')}"
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    if kind in ("jpeg", "png", "tiff"):
        save(path, array, exif=exif, **({"quality": 95, "subsampling": 0} if kind == "jpeg" else {}))
    elif kind == "tiff16":
        extratags = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(path, array.astype(np.uint16) * 257, photometric="rgb", extratags=extratags)
    else:
        write_image(path, Image(array.astype(np.uint16) * 257))
        content = path.read_bytes()
        chunk = io.BytesIO()
        png.write_chunk(chunk, b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
        path.write_bytes(content[:33] + chunk.getvalue() + content[33:])
    reference = Pillow.fromarray(array)
    reference.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(reference))
    image = read_image(path)
    found = image.array if image.depth == "8" else image.array // 257
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).max() <= (20 if kind == "jpeg" else 0)
    write_image(tmp_path / "again.png", image)  # upright pixels must not be turned a second time
    assert read_image(tmp_path / "again.png").array.shape == upright.shape


MODES = {
    ".png": ["1", "L", "P", "RGB", "RGBA", "LA"],
    ".jpg": ["1", "L", "RGB", "CMYK", "YCbCr"],
    ".tif": ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "LAB"],
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in MODES.items() for mode in modes])
def test_modes_of_8_bits_are_what_pillow_makes_of_them(tmp_path, suffix, mode):
    path = tmp_path / f"a{suffix}"
    save(path, pixels((8, 6, 3), "uint8"), mode)
    image = read_image(path)
    wanted = {"1": "L", "L": "L", "LA": "LA", "RGBA": "RGBA"}.get(mode, "RGB")
    with Pillow.open(path) as picture:
        if picture.mode == "L":  # JPEG keeps no bilevel pictures
            wanted = "L"
        expected = np.asarray(picture.convert(wanted))
    together = image.array if image.alpha is None else np.dstack([image.array, image.alpha])
    np.testing.assert_array_equal(together, expected)
    assert image.depth == "8"


def test_palette_with_transparency_and_transparent_colour(tmp_path):
    palette = Pillow.fromarray(np.array([[0, 1, 2]], np.uint8), mode="P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.save(tmp_path / "p.png", transparency=bytes([0, 128]))
    image = read_image(tmp_path / "p.png")
    assert image.array.tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]
    assert image.alpha.tolist() == [[0, 128, 255]]
    assert image.mode == "P"
    save(tmp_path / "g.png", np.array([[5, 6]], np.uint8), transparency=6)
    assert read_image(tmp_path / "g.png").alpha.tolist() == [[255, 0]]


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_tiff_where_0_is_white(tmp_path, photometric):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 1000]], np.uint16), photometric=photometric)
    expected = [[0, 1000]] if photometric == "minisblack" else [[65535, 64535]]
    assert read_image(tmp_path / "a.tif").array.tolist() == expected


def test_tiff_in_planes_half_floats_and_big_endian(tmp_path):
    array = pixels((5, 4, 3), "float32").astype(np.float16)
    tifffile.imwrite(
        tmp_path / "a.tif", np.moveaxis(array, -1, 0), photometric="rgb", planarconfig="separate", byteorder=">"
    )
    image = read_image(tmp_path / "a.tif")
    assert image.array.dtype == np.float32
    np.testing.assert_array_equal(image.array, array)


def test_premultiplied_alpha_is_divided_out(tmp_path):
    array = np.array([[[100, 200, 300, 32768], [0, 0, 0, 0], [7, 8, 9, 65535]]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extrasamples=["assocalpha"])
    image = read_image(tmp_path / "a.tif")
    assert image.array.tolist() == [[[200, 400, 600], [0, 0, 0], [7, 8, 9]]]
    assert image.alpha.tolist() == [[32768, 0, 65535]]


@pytest.mark.parametrize(
    ("suffix", "dtype"), [(".png", "uint8"), (".png", "uint16"), (".jpg", "uint8"), (".tif", "uint16")]
)
def test_colour_profile_is_kept_while_it_fits(tmp_path, suffix, dtype):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / f"a{suffix}"
    write_image(path, Image(pixels((8, 8, 3), dtype), icc_profile=profile))
    assert read_image(path).icc_profile == profile
    write_image(path, Image(pixels((8, 8), dtype), icc_profile=profile))  # grey pixels, a profile of colours
    assert read_image(path).icc_profile is None


def test_npy_channels_and_bits(tmp_path):
    for array, channels, alpha in (
        (pixels((3, 4, 1), "uint8"), 1, False),
        (pixels((3, 4, 4), "float32"), 3, True),
        (pixels((3, 4), "uint16").astype(">u2"), 1, False),
    ):
        np.save(tmp_path / "a.npy", array)
        image = read_image(tmp_path / "a.npy")
        assert (image.channels, image.alpha is not None) == (channels, alpha)
        assert image.array.dtype.isnative
    np.save(tmp_path / "a.npy", np.array([[True, False]]))
    assert read_image(tmp_path / "a.npy").array.tolist() == [[255, 0]]


def png_that_claims(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(content)) + tag + content + struct.pack(">I", zlib.crc32(tag + content))
        for tag, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def encoded(suffix, array=None, **options):
    file = io.BytesIO()
    known = format_for(f"a{suffix}")
    known.encode(file, Image(pixels((64, 64, 3), "uint8") if array is None else array), **options)
    return file.getvalue()


def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def with_tag(content, tag, value):
    """`content`, a little-endian TIFF, with another number in one short tag of its first directory."""
    content = bytearray(content)
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", content, entry)[0] == tag:
            struct.pack_into("<H", content, entry + 8, value)
    return bytes(content)


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


LZW, JPEG_2000 = 5, 34712
ROWS = np.zeros((64, 64), np.uint16)
WRONG_FILES = {
    "empty": ("a.png", lambda: b"", r"a picture \(PNG, JPEG, TIFF or \.npy\); it is empty"),
    "text": ("a.png", lambda: b"hello world, no picture", r"a picture .*; it begins with b'hello world, no '"),
    "gif": ("a.gif", lambda: b"GIF89a\x01\x00\x01\x00", r"a picture .*; it begins with b'GIF89a"),
    "PNG signature only": ("a.png", lambda: encoded(".png")[:8], r"a complete, undamaged PNG picture"),
    "PNG cut in its header": ("a.png", lambda: encoded(".png")[:20], r"a complete, undamaged PNG picture"),
    "PNG cut in half": ("a.png", lambda: encoded(".png")[:6000], r"a complete, undamaged PNG picture"),
    "PNG damaged": (
        "a.png",
        lambda: encoded(".png")[:500] + b"\0" * 600 + encoded(".png")[1100:],
        r"a complete, undamaged PNG picture",
    ),
    "PNG with 16 bits cut": (
        "a.png",
        lambda: encoded(".png", pixels((64, 64, 3), "uint16"))[:9000],
        r"a complete, undamaged PNG picture",
    ),
    "PNG with 16 bits and alpha cut": ("a.png", lambda: la16()[:3000], r"a complete, undamaged PNG picture"),
    "PNG that claims 10 gigapixels": (
        "a.png",
        lambda: png_that_claims(100_000, 100_000),
        r"at most 178956970 pixels; larger pictures can come as \.npy",
    ),
    "PNG that claims 100 megapixels": ("a.png", lambda: png_that_claims(10_000, 10_000), r"undamaged PNG picture"),
    "JPEG cut in half": ("a.jpg", lambda: encoded(".jpg")[:2000], r"a complete, undamaged JPEG picture"),
    "JPEG start only": ("a.jpg", lambda: b"\xff\xd8\xff\xe0", r"a complete, undamaged JPEG picture"),
    "TIFF start only": ("a.tif", lambda: b"II*\0", r"a complete, undamaged TIFF picture"),
    "TIFF that points outside": ("a.tif", lambda: b"II*\0\xff\xff\0\0", r"one picture, found 0 pages|undamaged TIFF"),
    "TIFF of 16 bits cut": ("a.tif", lambda: tiff(ROWS)[:4000], r"undamaged TIFF picture \(the file ends before"),
    "TIFF of 8 bits cut": ("a.tif", lambda: tiff(np.zeros((64, 64), "u1"))[:2000], r"a complete, undamaged TIFF"),
    "TIFF with three pages": (
        "a.tif",
        lambda: tiff(np.zeros((3, 8, 8), np.uint16), photometric="minisblack"),
        r"one picture, found 3 pages; split the file first",
    ),
    "TIFF of 32-bit integers": (
        "a.tif",
        lambda: tiff(np.zeros((8, 8), np.int32)),
        r"uint8, uint16 or float values, found int32",
    ),
    "TIFF of 16-bit CMYK": (
        "a.tif",
        lambda: tiff(np.zeros((8, 8, 4), np.uint16), photometric="separated"),
        r"grey or RGB with or without alpha beyond 8 bits, found SEPARATED",
    ),
    "TIFF in a compression of another package": (
        "a.tif",
        lambda: with_tag(tiff(ROWS), 259, JPEG_2000),
        r"JPEG2000\w* compression to be readable, for which: pip install imagecodecs",
    ),
    "npy of three values": ("a.npy", lambda: npy(np.zeros(3)), r"an array of shape .* found shape \(3,\)"),
    "npy of seven channels": ("a.npy", lambda: npy(np.zeros((4, 4, 7))), r"C from 1 to 4, found shape \(4, 4, 7\)"),
    "npy without pixels": ("a.npy", lambda: npy(np.zeros((0, 4))), r"found shape \(0, 4\)"),
    "npy of complex numbers": (
        "a.npy",
        lambda: npy(np.zeros((4, 4), complex)),
        r"uint8, uint16 or float values, found complex128",
    ),
    "npy of long integers": (
        "a.npy",
        lambda: npy(np.zeros((4, 4), int)),
        r"uint8, uint16 or float values, found int64",
    ),
    "npy of objects": (
        "a.npy",
        lambda: npy(np.array([[print]])),
        r"undamaged \.npy picture \(Object arrays cannot be loaded",
    ),
    "npy cut": ("a.npy", lambda: npy(np.zeros((9, 9)))[:200], r"a complete, undamaged \.npy picture"),
    "npy that claims more than there is": (
        "a.npy",
        lambda: npy(np.zeros((9, 9))).replace(b"(9, 9), }" + b" " * 8, b"(999999, 99999), }"[:17]),
        r"a complete, undamaged \.npy picture",
    ),
}


def la16():
    file = io.BytesIO()
    image = Image(pixels((32, 32), "uint16"), pixels((32, 32), "uint16"))
    format_for("a.png").encode(file, image)
    return file.getvalue()


@pytest.mark.parametrize("case", WRONG_FILES)
def test_wrong_file(tmp_path, capfd, case):
    name, content, message = WRONG_FILES[case]
    path = tmp_path / name
    path.write_bytes(content())
    with pytest.raises(FileContentError, match=message) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: expected ")
    assert capfd.readouterr() == ("", "")


def test_a_directory_a_pipe_and_nothing_at_all(tmp_path):
    with pytest.raises(FileContentError, match=r": expected a picture \(PNG, JPEG, TIFF or \.npy\), not a directory$"):
        read_image(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nothing\.png"):
        read_image(tmp_path / "nothing.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(FileContentError, match=r"not a device or a pipe"):
            read_image(tmp_path / "pipe.png")


def test_lzw_in_colour_of_8_bits_needs_nothing_else(tmp_path):
    array = pixels((8, 8, 3), "uint8")
    save(tmp_path / "a.tif", array, compression="tiff_lzw")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").array, array)


def test_damaged_metadata_does_not_lose_the_picture(tmp_path):
    save(tmp_path / "a.jpg", pixels((8, 8, 3), "uint8"), exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert read_image(tmp_path / "a.jpg").array.shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("a.gif", Image(np.zeros((2, 2), np.uint8)), r"a name that ends with one of \.png, \.jpg, \.jpeg, \.tif"),
        ("a", Image(np.zeros((2, 2), np.uint8)), r"a name that ends with one of \.png"),
        ("a.jpg", Image(np.zeros((2, 2), np.uint16)), r"8-bit values, which JPEG can hold, not uint16"),
        ("a.png", Image(np.zeros((2, 2), np.float32)), r"8 or 16-bit values, which PNG can hold, not float32"),
        ("a.jpg", Image(*np.zeros((2, 2, 2), np.uint8)), r"a picture without alpha, which JPEG cannot hold"),
    ],
)
def test_what_a_format_cannot_hold(tmp_path, name, image, message):
    with pytest.raises(FileContentError, match=message) as caught:
        write_image(tmp_path / name, image)
    assert str(caught.value).startswith(f"{tmp_path / name}: expected ")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("array", "alpha", "error", "message"),
    [
        (np.zeros((2, 2, 4), np.uint8), None, ArgumentValueError, r"^array = array of shape \(2, 2, 4\)"),
        (np.zeros((0, 2), np.uint8), None, ArgumentValueError, r"without empty axes"),
        (np.zeros((2, 2), np.int32), None, ArgumentTypeError, r"^dtype = 'int32': expected uint8, uint16, float32"),
        (
            np.zeros((2, 2), np.uint8),
            np.zeros((2, 3), np.uint8),
            ArgumentValueError,
            r"^alpha = .*the height and width",
        ),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 2)), ArgumentTypeError, r"^alpha = .*the dtype of the picture"),
    ],
)
def test_what_is_no_picture(array, alpha, error, message):
    with pytest.raises(error, match=message):
        Image(array, alpha)


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_image(path, np.zeros((4, 4), np.uint8))
    before = path.read_bytes()

    for failure in (OSError(28, "No space left on device"), KeyboardInterrupt()):

        def save(self, file, failure=failure, **options):
            file.write(b"half a picture")
            raise failure

        monkeypatch.setattr(Pillow.Image, "save", save)
        with pytest.raises(type(failure)):
            write_image(path, np.ones((4, 4), np.uint8))
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["a.png"]


def test_replacing_keeps_permissions_and_links(tmp_path):
    real, link = tmp_path / "real.png", tmp_path / "link.png"
    write_image(real, np.zeros((4, 4), np.uint8))
    os.chmod(real, 0o640)
    link.symlink_to(real.name)
    write_image(link, np.full((4, 4), 9, np.uint8))
    assert link.is_symlink()
    assert (read_image(real).array == 9).all()
    assert stat.S_IMODE(os.stat(real).st_mode) == 0o640
    umask = os.umask(0o027)
    try:
        write_image(tmp_path / "new.png", np.zeros((4, 4), np.uint8))
    finally:
        os.umask(umask)
    assert stat.S_IMODE(os.stat(tmp_path / "new.png").st_mode) == 0o640
    write_image(tmp_path / ("n" * 251 + ".png"), np.zeros((4, 4), np.uint8))


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(
        FileContentError, match=r"folder\.png: expected a file to write; this is a directory or a device"
    ):
        write_image(tmp_path / "folder.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(FileNotFoundError, match=r"No such directory: .*missing"):
        write_image(tmp_path / "missing" / "a.png", np.zeros((4, 4), np.uint8))
    if hasattr(os, "mkfifo"):  # as /dev/null would be, which a careless rename replaces by a picture
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(FileContentError, match=r"a directory or a device"):
            write_image(tmp_path / "pipe.png", np.zeros((4, 4), np.uint8))


def test_astronaut_without_importing_scikit_image():
    np.testing.assert_array_equal(astronaut(), skimage_data.astronaut())


@pytest.mark.parametrize("name", ["PIL.Image", "tifffile", "png"])
def test_missing_packages_are_named_with_what_installs_them(tmp_path, monkeypatch, name):
    suffix = {"tifffile": ".tif"}.get(name, ".png")
    image = Image(np.zeros((4, 4, 3), np.uint8 if name == "PIL.Image" else np.uint16))
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=r'which is not installed: pip install "starconv\[view\]"'):
        write_image(tmp_path / f"a{suffix}", image)
    assert os.listdir(tmp_path) == []


def test_missing_scikit_image(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r'scikit-image, .*: pip install "starconv\[tour\]"'):
        astronaut()


def test_grey():
    array = np.array([[[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_allclose(to_grey(array), [[255, 54.213, 182.376, 18.411]])
    assert to_grey(array.astype(np.float32)).dtype == np.float32
    assert to_grey(array[..., 0]).tolist() == [[255, 255, 0, 0]]
    with pytest.raises(ArgumentValueError, match=r"^array = .*: expected shape \(H, W\) or \(H, W, 3\)"):
        to_grey(np.zeros((2, 2, 4)))
    with pytest.raises(ArgumentTypeError, match=r"^array = .*: expected real numbers"):
        to_grey(np.zeros((2, 2), complex))


def test_quantise():
    values = np.array([-0.5, 0.5, 1.5, 255.4, 255.6, -9, np.nan, np.inf, -np.inf])
    result = quantise(values, "uint8")
    assert result.array.tolist() == [0, 0, 2, 255, 255, 0, 0, 255, 0]
    assert (result.below, result.above, result.not_numbers) == (2, 2, 1)
    assert quantise(values, "float32").array.dtype == np.float32
    assert (white("uint8"), white("uint16"), white("float64")) == (255, 65535, 1)


def test_temporary_file_is_beside_the_target(tmp_path):
    with files.replaced_when_complete(tmp_path / "a.png") as file:
        assert os.path.dirname(file.name) == str(tmp_path)
        assert not (tmp_path / "a.png").exists()
        file.write(b"done")
    assert (tmp_path / "a.png").read_bytes() == b"done"
