"""Damaged files of weights in a process of their own: ``python tests/weight_fuzz.py SEED COUNT CASE``.

Whatever happens must be arrays or a FileContentError, with at most 5 seconds of processor time and twice the file in
memory, besides what libraries keep.
"""

import random
import struct
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import safetensors.numpy
from fuzzing import check_message, small, survive

FILES = Path(__file__).parent / "nets" / "files"
TORCH = ("zip.pth", "legacy.pth")
SLACK = 2**20
"""Bytes of address space that reading may take besides: half of it is enough, for 8,000 files of all kinds."""


def samples(folder, numbers=4):
    """A file of each kind that fuzzing may start from, small unless there are many `numbers`."""
    arrays = {"conv1.weight": np.arange(18, dtype="f4").reshape(2, 1, 3, 3), "fc.bias": np.arange(float(numbers))}
    np.savez(folder / "w.npz", **arrays)
    np.savez_compressed(folder / "packed.npz", **arrays)
    safetensors.numpy.save_file(arrays, folder / "w.safetensors")
    for version in ("earliest", "latest"):
        with h5py.File(folder / f"{version}.h5", "w", libver=version) as file:
            for name, array in arrays.items():
                file[f"layers/{name}/vars/0"] = array
            file.create_dataset("pieces", data=np.arange(64, dtype="f4").reshape(8, 8), chunks=(4, 4))
            file.attrs["backend"] = "keras"
    own = (path for form in ("npz", "safetensors", "h5") for path in sorted(folder.glob(f"*.{form}")))
    return [*(FILES / name for name in TORCH), *own]


def mutated(content, rng):
    """`content` with a few bytes changed, cut off, doubled or moved."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(data))
        match rng.randrange(6):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place] = rng.choice((0, 1, 0x2E, 0x28, 0x52, 0x7F, 0x80, 0xFF))
            case 2:
                data[place : place + 4] = struct.pack("<I", rng.choice((0, 2**31, 2**32 - 1, 65535)))
            case 3:
                del data[place : place + rng.choice((1, 8, len(data)))]
            case 4:
                data[place:place] = data[place : place + 16]
            case _:  # an address or a size that is one of something else
                other = rng.randrange(len(data)) & ~7
                data[place & ~7 : (place & ~7) + 8] = data[other : other + 8]
        if not data:
            break
    return bytes(data)


def main(seed, count, keep, only=""):
    from starconv.data.files import FileContentError
    from starconv.nets import load_weights

    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [path for path in samples(folder) if only in path.name]
        sources = [path.read_bytes() for path in paths]
        for path in paths:
            load_weights(path)  # everything that is imported later is
        (folder / "large").mkdir()
        for path in samples(folder / "large", 2**20):
            with small(2 * path.stat().st_size + 2**23 + SLACK):  # compressed ones are small
                load_weights(path)

        def attempt(data):
            path = folder / "damaged"
            path.write_bytes(data)
            try:
                with small(2 * len(data) + SLACK):
                    found = load_weights(path)
            except FileContentError as error:
                check_message(str(error), path.name)
                return "refused"
            assert all(isinstance(array, np.ndarray) for array in found.values())
            with np.errstate(all="ignore"):
                for array in found.values():
                    array.sum()  # every element is there
            return "read"

        survive(attempt, (mutated(rng.choice(sources), rng) for _ in range(count)), keep, seed)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
