"""The digits that come with starconv, and MNIST's files: read as written, refused where damaged."""

import gzip
import struct

import numpy as np
import pytest

import starconv as sc
from starconv.data.digits import digits
from starconv.data.files import FileContentError
from starconv.data.idx import mnist, read_idx

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx(array):
    header = bytes([0, 0, CODES[array.dtype.name], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def test_digits():
    train, test = digits()
    images, labels = np.concatenate([train.images, test.images]), np.concatenate([train.labels, test.labels])
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert set(np.unique(images * 16)) == set(range(17))
    # The class counts that the data set's own description gives for its test set.
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(test.labels).min() >= 20
    assert len({image.tobytes() for image in images}) == 1797  # no picture is in both parts


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(3,), (2, 0), (2, 3, 4)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_reads_what_was_written(tmp_path, dtype, shape, pack):
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    (tmp_path / "file").write_bytes(pack(idx(array)))
    found = read_idx(tmp_path / "file")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


GOOD = idx(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "two zero bytes"),
        (b"\x89PNG\r\n", "two zero bytes"),
        (b"\0\0\x07\x01" + GOOD[4:], "a type"),
        (b"\0\0\x08\x00", "axes"),
        (b"\0\0\x08\xff" + bytes(2000), "axes"),
        (GOOD[:9], "ends within"),
        (GOOD[:-1], "only 11"),
        (GOOD + b"x", "more"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "announces shape"),
        (b"\0\0\x08\x01" + struct.pack(">I", 2**31 - 1) + b"abc", "only 3"),
        (gzip.compress(GOOD)[:-5], "gzip"),
        (gzip.compress(GOOD)[:-8] + b"\xff\xff\xff\xff\x10\0\0\0", "gzip"),
        (b"\x1f\x8b", "gzip"),
    ],
)
def test_refuses_what_is_damaged(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(FileContentError, match=message):
        read_idx(tmp_path / "file")


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    bomb = gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 10) + bytes(50_000_000))
    (tmp_path / "file").write_bytes(bomb)
    with pytest.raises(FileContentError, match="more"):
        read_idx(tmp_path / "file")
    with pytest.raises(FileContentError, match="at most 5 bytes"):
        read_idx(tmp_path / "file", largest=5)


def test_mnist(tmp_path):
    generator = np.random.default_rng(0)
    images = {
        name: generator.integers(0, 256, (count, 28, 28), np.uint8) for name, count in (("train", 6), ("t10k", 4))
    }
    for name, pictures in images.items():
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pictures)))
        (tmp_path / f"{name}-labels.idx1-ubyte").write_bytes(idx(np.arange(len(pictures), dtype=np.uint8)))
    train, test = mnist(tmp_path)
    assert train.images.shape == (6, 1, 28, 28)
    np.testing.assert_array_equal((test.images[:, 0] * 255).round(), images["t10k"])
    np.testing.assert_array_equal(test.labels, np.arange(4))
    (tmp_path / "t10k-labels.idx1-ubyte").write_bytes(idx(np.arange(5, dtype=np.uint8)))
    with pytest.raises(FileContentError, match="4 labels"):
        mnist(tmp_path)
    (tmp_path / "t10k-labels.idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError):
        mnist(tmp_path)
    with pytest.raises(sc.ArgumentValueError, match="folder"):
        mnist(tmp_path / "nothing")
