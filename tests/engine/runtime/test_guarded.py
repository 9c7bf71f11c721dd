"""The guard pages guard: a step too far ends the process, everything within does not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from guarded import PAGE, guarded, guarded_empty


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (3, 5, 7), (2, 1024), (5000,)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int16", "complex128", ">f4"])
def test_a_copy_flush_against_the_page(shape, dtype, end):
    original = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    copy = guarded(original, end=end)
    assert copy.dtype == original.dtype
    assert copy.shape == original.shape
    assert copy.flags.c_contiguous
    assert copy.flags.writeable
    assert np.array_equal(copy, original)
    assert (copy.ctypes.data + end * copy.nbytes) % PAGE == 0
    copy[...] = 1


def test_views_are_copied_in_order():
    original = np.arange(24).reshape(4, 6)[::-1, ::2]
    assert np.array_equal(guarded(original), original)


def test_read_only_arrays_say_so():
    with pytest.raises(ValueError, match="read-only"):
        guarded(np.ones(3), read_only=True)[0] = 2


def test_outputs_show_what_was_not_written():
    out = guarded_empty((2, 3))
    assert out.shape == (2, 3)
    assert (out.view(np.uint8) == 0xA5).all()


def test_references_are_refused():
    with pytest.raises(TypeError, match="plain numbers"):
        guarded(np.array([None]))


@pytest.mark.parametrize(
    ("options", "touch", "dies"),
    [
        ("end=True", "ctypes.string_at(start + size - 1, 1)", False),
        ("end=True", "ctypes.string_at(start + size, 1)", True),
        ("end=False", "ctypes.string_at(start, 1)", False),
        ("end=False", "ctypes.string_at(start - 1, 1)", True),
        ("end=False", "ctypes.memset(start + size - 1, 0, 1)", False),
        ("read_only=True", "ctypes.string_at(start, size)", False),
        ("read_only=True", "ctypes.memset(start, 0, 1)", True),
    ],
)
def test_a_step_too_far_ends_the_process(options, touch, dies):
    program = f"""
import ctypes, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import numpy as np
from guarded import guarded
array = guarded(np.ones((3, 700), np.float32), {options})
start, size = array.ctypes.data, array.nbytes
{touch}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == dies, done.stderr
    assert done.stderr == "" or sys.platform == "win32"
