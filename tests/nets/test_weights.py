"""Weights from files: what torch, NumPy and safetensors wrote, and what nobody should be able to make them do.

The two .pth files were written by torch 2.13; `torch.arange`, `.T` and the like decide what is in them.
"""

import io
import pickle
import struct
import sys
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
import safetensors.numpy
from fuzzing import started
from weight_fuzz import FILES, TORCH, samples

from starconv.data.files import FileContentError
from starconv.nets.pickled import Refused, StorageKey, read_pickle
from starconv.nets.weights import load_weights


@pytest.mark.parametrize("name", TORCH)
def test_a_file_of_torch(name):
    found = load_weights(FILES / name)
    shapes = {key: (array.shape, str(array.dtype)) for key, array in found.items()}
    assert shapes == {
        "0.weight": ((2, 1, 3, 3), "float32"),
        "0.bias": ((2,), "float32"),
        "1.weight": ((2,), "float32"),
        "1.bias": ((2,), "float32"),
        "1.running_mean": ((2,), "float32"),
        "1.running_var": ((2,), "float32"),
        "1.num_batches_tracked": ((), "int64"),
        "half": ((4,), "float16"),
        "bfloat16": ((3,), "float32"),
        "flags": ((2,), "bool"),
        "turned": ((3, 2), "float32"),
    }
    assert np.array_equal(found["1.running_var"], [1, 1])
    assert np.array_equal(found["half"], [0, 1, 2, 3])
    # bfloat16 keeps 8 bits of a number; the nearest to 3e38 is 0x7F62 followed by zeros.
    assert np.array_equal(found["bfloat16"], np.array([1, -2.5, struct.unpack(">f", b"\x7f\x62\0\0")[0]], "f4"))
    assert np.array_equal(found["flags"], [True, False])
    assert np.array_equal(found["turned"], np.arange(6).reshape(2, 3).T)
    assert all(np.all(np.isfinite(array)) for array in found.values())


def test_both_files_of_torch_hold_the_same():
    new, old = (load_weights(FILES / name) for name in TORCH)
    for name, array in new.items():
        assert np.array_equal(array, old[name])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(save, tmp_path):
    arrays = {
        "layer.weight": np.arange(24, dtype="f4").reshape(2, 3, 4),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "one": np.float16(3),
        "none": np.zeros((0, 4), "u1"),
    }
    save(tmp_path / "w.npz", **arrays)
    found = load_weights(tmp_path / "w.npz")
    for name, array in arrays.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype.newbyteorder("=")
        assert np.array_equal(found[name], array)


def test_safetensors_with_bfloat16(tmp_path):
    safetensors.numpy.save_file({"w": np.arange(6, dtype="f4").reshape(2, 3)}, tmp_path / "w.safetensors")
    assert np.array_equal(load_weights(tmp_path / "w.safetensors")["w"], np.arange(6).reshape(2, 3))
    header = b'{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    content = struct.pack("<Q", len(header)) + header + b"\x80\x3f\x20\xc0"
    (tmp_path / "b.weights").write_bytes(content)  # the name does not decide
    found = load_weights(tmp_path / "b.weights")["w"]
    assert found.dtype == np.float32
    assert np.array_equal(found, [1, -2.5])


def test_hdf5(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["block1/layers/conv2d/vars/0"] = np.arange(9, dtype="f4").reshape(3, 3)
        file["note"] = "text is left out"
    found = load_weights(tmp_path / "w.h5")
    assert list(found) == ["block1/layers/conv2d/vars/0"]
    assert np.array_equal(found["block1/layers/conv2d/vars/0"], np.arange(9).reshape(3, 3))
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("w", (2**33,), "f4")  # announced, but not there
    with pytest.raises(FileContentError, match="in the file itself"):
        load_weights(tmp_path / "bomb.h5", largest=2**40)


@pytest.mark.parametrize("filters", [{"compression": "gzip"}, {"compression": "lzf"}, {}])
def test_an_hdf5_file_does_not_unpack(filters, tmp_path):
    """Eight numbers, to read which a piece of 16 MiB would have to be unpacked, or is not there to its end."""
    with h5py.File(tmp_path / "w.h5", "w") as file:
        numbers = file.create_dataset("w", (8,), "f4", chunks=(2**22,), maxshape=(None,), **filters)
        numbers[...] = 1
    if not filters:  # all of the piece is in the file
        assert np.array_equal(load_weights(tmp_path / "w.h5")["w"], np.ones(8))
        (tmp_path / "w.h5").write_bytes((tmp_path / "w.h5").read_bytes()[:-1])
    with pytest.raises(FileContentError, match=r"w\.h5"):
        load_weights(tmp_path / "w.h5")


def test_hdf5_in_pieces_with_sums(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_dataset("w", data=np.arange(64.0).reshape(8, 8), chunks=(4, 4), shuffle=True, fletcher32=True)
    assert np.array_equal(load_weights(tmp_path / "w.h5")["w"], np.arange(64).reshape(8, 8))


def test_groups_of_an_hdf5_file_that_hold_each_other(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        outer = file.create_group("outer")
        outer["w"] = np.ones(3)
        inner = outer.create_group("inner")
        inner["outer"], inner["root"], inner["again"] = outer, file["/"], outer["w"]
        inner["elsewhere"], inner["soft"] = h5py.ExternalLink("/etc/passwd", "w"), h5py.SoftLink("/outer/w")
    found = load_weights(tmp_path / "w.h5")
    assert sorted(found) == ["outer/inner/again", "outer/w"]  # both names of one array, as tied weights have; no more
    assert found["outer/w"] is found["outer/inner/again"]
    with h5py.File(tmp_path / "deep.h5", "w", libver="latest") as file:
        group = file
        for _ in range(3000):  # HDF5's own visit takes 6 s, and minutes for 10,000
            group = group.create_group("g")
    with pytest.raises(FileContentError, match="at most 64 groups within each other"):
        load_weights(tmp_path / "deep.h5")


def test_entries_of_an_archive_that_say_they_are_large(tmp_path):
    """zipfile makes room for what an entry says, and reads then."""
    for name, source in (("w.pth", FILES / "zip.pth"), ("w.npz", tmp_path / "small.npz")):
        np.savez(tmp_path / "small.npz", w=np.zeros(4))
        content = bytearray(source.read_bytes())
        place = content.index(b"PK\1\2")  # the directory's first entry; 20 bytes on, the size of what is packed
        content[place + 20 : place + 24] = struct.pack("<I", 2**31)
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileContentError, match=r"larger than the file|smaller than the file|pickles|whole archive"):
            load_weights(tmp_path / name)


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"PK\x03\x04", b"\x80\x02", b"\x89PNG\r\n\x1a\n", b"\x80\x02}.", b"\x89HDF\r\n\x1a\n"]
)
def test_other_files(content, tmp_path):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(FileContentError, match=r"w\.pth"):
        load_weights(tmp_path / "w.pth")


def test_a_missing_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_weights(tmp_path / "w.pth")


class Call:
    """Unpickling this would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nothing_is_called(protocol, tmp_path):
    trace = tmp_path / "trace"
    harm = pickle.dumps({"w": Call(trace)}, protocol)
    with pytest.raises(Refused, match=r"exec, which is no part of a state_dict"):
        read_pickle(io.BytesIO(harm))
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("w/data.pkl", harm)
    with pytest.raises(FileContentError, match="exec"):
        load_weights(tmp_path / "w.pth")
    assert not trace.exists()
    pickle.loads(harm)
    assert trace.exists()  # so it would have been


@pytest.mark.parametrize("name", ["os system", "torch load", "torch.storage _load_from_bytes", "collections Counter"])
def test_names_beyond_the_list_are_refused(name):
    module, attribute = name.split()
    with pytest.raises(Refused, match="no part of a state_dict"):
        read_pickle(io.BytesIO(f"\x80\x02c{module}\n{attribute}\n)R.".encode("latin-1")))


@pytest.mark.parametrize("code", [b"i", b"o", b"\x81", b"\x92", b"\x82", b"\x97", b"P", b"I", b"S", b"2", b"0"])
def test_instructions_beyond_the_list_are_refused(code):
    with pytest.raises(Refused, match="which no file of weights needs"):
        read_pickle(io.BytesIO(b"\x80\x02" + code + b"."))


def _tensor(offset=0, size=(2,), stride=(1,), numbers=4):
    """The pickle of {"w": tensor} with a storage of `numbers` float32 numbers."""

    def integers(values):
        # Protocol 2 has tuples of 1 to 3 entries without a mark; a mark takes any number.
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"

    storage = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" + b"0X\3\0\0\0cpu" + integers([numbers])[1:-1] + b"tQ"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + integers([offset])[1:-1] + integers(size)
    rebuild += integers(stride) + b"\x89ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02}X\1\0\0\0w" + rebuild + b"s."


def _read(data):
    return read_pickle(io.BytesIO(data), lambda key: np.arange(key.size, dtype=key.dtype))


def test_a_tensor_by_hand():
    assert np.array_equal(_read(_tensor(1, (2, 2), (0, 1)))["w"], [[1, 2], [1, 2]])
    assert np.array_equal(_read(_tensor(3, (), ()))["w"], 3)
    assert _read(_tensor(0, (0, 5), (5, 1)))["w"].shape == (0, 5)


@pytest.mark.parametrize(
    "tensor",
    [
        {"size": (5,)},
        {"offset": 3},
        {"offset": -1},
        {"stride": (-1,)},
        {"stride": (4,)},
        {"size": (2**40,), "stride": (0,)},
        {"size": (2**31, 2**31, 0), "stride": (0, 0, 0)},
        {"size": (2, 2)},
        {"size": (1,) * 65, "stride": (1,) * 65},
        {"offset": 2**62, "size": (1,)},
    ],
)
def test_tensors_outside_of_their_storage_are_refused(tensor):
    with pytest.raises(Refused, match=r"tensor"):
        _read(_tensor(**tensor))


def test_a_reference_is_no_number_of_a_tensor():
    with pytest.raises(Refused, match="storage"):
        read_pickle(io.BytesIO(_tensor()))
    assert StorageKey("f4", "0", 4) == StorageKey("f4", "0", 4)


@pytest.mark.parametrize("dtype", ["<f3", "<f0", "|b8", "<i3", "<u0", "|O8"])
def test_dtypes_that_are_none(dtype, tmp_path):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': (1,), }}\n".encode()
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("w.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(8))
    with pytest.raises(FileContentError, match="arrays of numbers; 'w' is none"):
        load_weights(tmp_path / "w.npz")


def test_bombs_stay_small(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000,), }\n"
        with archive.open("w.npy", "w", force_zip64=True) as member:
            member.write(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header)
            for _ in range(300):
                member.write(bytes(2**20))
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", _tensor(numbers=2**20))
        archive.writestr("w/data/0", bytes(2**22))
    promises = struct.pack("<Q", 2**60) + b"{}"
    (tmp_path / "bomb.safetensors").write_bytes(promises)
    legacy = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    (tmp_path / "bomb.pt").write_bytes(legacy + _tensor(numbers=2**40) + pickle.dumps(["0"], 2))
    tracemalloc.start()
    try:
        for suffix in ("npz", "pth", "safetensors", "pt"):
            with pytest.raises(FileContentError):
                load_weights(tmp_path / f"bomb.{suffix}")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6


def test_the_limit_can_be_set(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", w=np.zeros(1000))
    with pytest.raises(FileContentError, match="at most 4000 bytes"):
        load_weights(tmp_path / "w.npz", largest=4000)
    for name in TORCH:
        with pytest.raises(FileContentError, match="at most 100 bytes"):
            load_weights(FILES / name, largest=100)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and read as Linux has it")
def test_damaged_files_are_refused_or_read(tmp_path):
    seen = started("weight_fuzz.py", 0, 400, tmp_path)
    assert seen["refused"] > 100
    assert seen["read"] > 10


def test_every_way_to_cut_a_file_off(tmp_path):
    for path in samples(tmp_path):
        content = path.read_bytes()
        for length in range(0, len(content), 97):
            (tmp_path / "cut").write_bytes(content[:length])
            with pytest.raises(FileContentError):
                load_weights(tmp_path / "cut")
