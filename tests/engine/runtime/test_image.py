"""Objects as blocks that run wherever they are put: what they compute, where they may be written, what is refused."""

import ctypes
import os

import pytest

from starconv.engine.runtime import image, jit

TRIPLE, FEATURES = "x86_64-unknown-linux-gnu", "+avx2,+fma"
BINARY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)

CALLS = """
define i64 @twice(i64 %x, i64 %y) nounwind {
  %once = call i64 @sum(i64 %x, i64 %y)
  %sum = call i64 @sum(i64 %once, i64 %once)
  ret i64 %sum
}
define i64 @sum(i64 %x, i64 %y) nounwind noinline {
  %sum = add i64 %x, %y
  ret i64 %sum
}
"""
COUNTS = """
@total = internal global i64 0
@zeros = internal global [5000 x i8] zeroinitializer, align 64
@names = internal constant [3 x i64] [i64 100, i64 200, i64 300], align 32
define i64 @count(i64 %x, i64 %which) nounwind {
  %last = load i64, ptr @total
  %more = add i64 %last, %x
  store i64 %more, ptr @total
  %at = getelementptr i64, ptr @names, i64 %which
  %name = load i64, ptr %at
  %zero = load i64, ptr getelementptr (i8, ptr @zeros, i64 4992)
  %part = add i64 %more, %name
  %all = add i64 %part, %zero
  ret i64 %all
}
"""
OUTSIDE = """
declare i64 @labs(i64)
define i64 @f(i64 %x, i64 %y) nounwind {
  %r = call i64 @labs(i64 %x)
  ret i64 %r
}
"""
ADDRESS = """
@table = internal constant [1 x ptr] [ptr @f]
define ptr @f(i64 %at) nounwind {
  %place = getelementptr ptr, ptr @table, i64 %at
  %r = load ptr, ptr %place
  ret ptr %r
}
"""
STARTED = """
@start = internal global i64 7
define i64 @f(i64 %x, i64 %y) nounwind {
  %r = load i64, ptr @start
  store i64 %x, ptr @start
  ret i64 %r
}
"""

runs = pytest.mark.skipif(
    os.name != "posix" or jit.host().architecture != "x86_64" or jit.available() is not None,
    reason="the code is for x86-64",
)


@pytest.fixture
def loaded(request):
    """Loads a text; unmaps it at the end."""

    def load(text, names):
        code = image.load(image.image_of(jit.compile_object(text, TRIPLE, ""), names), names)
        request.addfinalizer(code.close)
        return code

    return load


@runs
def test_functions_call_each_other(loaded):
    code = loaded(CALLS, ["sum", "twice"])
    assert BINARY(code.addresses["twice"])(3, 4) == 14
    assert BINARY(code.addresses["sum"])(3, 4) == 7


@runs
def test_constants_are_read_and_variables_kept(loaded):
    first, second = (loaded(COUNTS, ["count"]) for _ in range(2))
    count, other = (BINARY(code.addresses["count"]) for code in (first, second))
    assert [count(1, 0), count(1, 1), count(5, 2), other(1, 0)] == [101, 202, 307, 101]


@runs
def test_code_can_be_read_and_executed_but_not_written(loaded):
    start = loaded(CALLS, ["sum"]).addresses["sum"]
    with open("/proc/self/maps") as maps:
        ranges = [line.split()[:2] for line in maps]
    (rights,) = [
        rights for where, rights in ranges if int(where.split("-")[0], 16) <= start < int(where.split("-")[1], 16)
    ]
    assert rights == "r-xp"


@pytest.mark.parametrize("text", [OUTSIDE, ADDRESS, STARTED])
def test_what_takes_a_linker_is_refused(text):
    assert image.image_of(jit.compile_object(text, TRIPLE, FEATURES), ["f"]) is None


@pytest.mark.parametrize("triple", ["aarch64-unknown-linux-gnu", "arm64-apple-macosx", "x86_64-pc-windows-msvc"])
def test_other_formats_are_refused(triple):
    assert image.image_of(jit.compile_object(CALLS, triple, ""), ["sum"]) is None


def test_damaged_objects_are_refused_or_blocks():
    whole = jit.compile_object(COUNTS, TRIPLE, FEATURES)
    assert image.image_of(whole, ["count"]) is not None
    assert image.image_of(whole, ["missing"]) is None
    for length in range(0, len(whole), 7):
        image.image_of(whole[:length], ["count"])


def test_other_bytes_are_no_block():
    assert image.load(b"not an image", ["f"]) is None
