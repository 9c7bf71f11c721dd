"""IR in, numbers out; one compilation per key; clear refusals; foreign targets as text."""

import ctypes
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from starconv.engine.runtime import cache, image, jit

ADD = """
define i64 @"add"(i64 %x, i64 %y) nounwind {
  %sum = call i64 @helper(i64 %x, i64 %y)
  ret i64 %sum
}

define internal i64 @helper(i64 %x, i64 %y) nounwind {
  %sum = add i64 %x, %y
  ret i64 %sum
}
"""

SCALE = """
define void @scale(ptr %p) nounwind {
  %x = load <8 x float>, ptr %p, align 4
  %y = call <8 x float> @llvm.fma.v8f32(<8 x float> %x, <8 x float> splat (float 1.5), <8 x float> splat (float 0.25))
  store <8 x float> %y, ptr %p, align 4
  ret void
}
declare <8 x float> @llvm.fma.v8f32(<8 x float>, <8 x float>, <8 x float>)
"""

BINARY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STARCONV_CACHE_DIR", str(tmp_path / "cache"))
    if jit.available() is not None:
        pytest.skip(jit.available())


def compile_here(text):
    return jit.compile_module(text, features=jit.host().feature_string)


def test_compile_and_call():
    module = compile_here(ADD)
    assert BINARY(module.address("add"))(40, 2) == 42


def test_a_missing_or_internal_name_is_an_error_not_a_zero():
    module = compile_here(ADD)
    for name in ("subtract", "helper", ""):
        with pytest.raises(jit.CompileError, match=r"only \['add'\]"):
            module.address(name)


def test_wrong_text_is_refused_with_the_place():
    with pytest.raises(jit.CompileError, match="expected value token"):
        compile_here("define void @f() { ret i32 }")
    with pytest.raises(jit.CompileError, match="function result type"):
        compile_here("define i32 @f(i64 %x) {\n  ret i64 %x\n}")


def test_a_function_nobody_has_is_refused_instead_of_ending_the_process():
    with pytest.raises(jit.CompileError, match="link"):
        compile_here(
            "declare void @no_such_function()\ndefine void @f() {\n call void @no_such_function()\n ret void\n}"
        )


def test_calls_into_the_c_library_are_linked():
    module = compile_here(
        """
        declare i64 @labs(i64)
        define i64 @f(i64 %x, i64 %y) nounwind {
          %r = call i64 @labs(i64 %x)
          ret i64 %r
        }""".replace("\n        ", "\n")
    )
    assert BINARY(module.address("f"))(-5, 0) == 5


def test_constants_in_memory_are_found():
    values = (ctypes.c_float * 8)(*range(8))
    module = compile_here(SCALE)  # named: dropping it unmaps the code
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(module.address("scale"))(ctypes.addressof(values))
    assert list(values) == [1.5 * x + 0.25 for x in range(8)]


def test_many_threads_that_ask_at_once_compile_once(monkeypatch):
    compiled = []
    original = jit.compile_object

    def counting(*arguments):
        compiled.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(jit, "compile_object", counting)
    start, modules = threading.Barrier(6), []

    def ask():
        start.wait()
        modules.append(compile_here(ADD + "; at once"))

    askers = [threading.Thread(target=ask) for _ in range(6)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(compiled) == 1
    assert len(set(map(id, modules))) == 1


def test_a_module_that_was_dropped_comes_back_from_disk(monkeypatch):
    module = compile_here(ADD + "; dropped")
    del module
    gc.collect()

    def refuse(*arguments):
        raise AssertionError("compiled again")

    monkeypatch.setattr(jit, "compile_object", refuse)
    module = compile_here(ADD + "; dropped")
    assert BINARY(module.address("add"))(1, 2) == 3


def test_other_features_are_another_module(monkeypatch):
    first, second = (jit.compile_module(ADD, features=features) for features in ("", "+bmi"))
    assert first is not second


def test_a_sound_file_that_is_no_object_is_compiled_anew(monkeypatch):
    text, features = ADD + "; no object", jit.host().feature_string
    names = []
    monkeypatch.setattr(cache, "load", lambda name: names.append(name) or b"not an object")
    module = jit.compile_module(text, features=features)
    assert BINARY(module.address("add"))(1, 2) == 3
    assert len(names) == 1


def test_without_a_cache_everything_works(monkeypatch):
    monkeypatch.setenv("STARCONV_CACHE_DIR", "off")
    module = compile_here(ADD + "; no cache")
    assert BINARY(module.address("add"))(1, 2) == 3


def test_the_digest_of_the_sources_is_kept_but_never_trusted_after_a_change(tmp_path, monkeypatch):
    folder = tmp_path / "engine" / "runtime"
    folder.mkdir(parents=True)
    for name in ("jit.py", "other.py"):
        (folder / name).write_text(name)
    monkeypatch.setattr(jit, "__file__", str(folder / "jit.py"))
    digest = jit._sources.__wrapped__
    assert digest() is None  # written since this process began
    monkeypatch.setattr(jit, "_BEGAN", 2**63)
    first = digest()
    assert first is not None
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", None)  # not read again
        assert digest() == first
    times = (folder / "other.py").stat()
    (folder / "other.py").write_text("OTHER.py")  # as long, and as old
    os.utime(folder / "other.py", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digest() not in (None, first)


def test_what_llvm_says_of_a_processor_is_kept(monkeypatch):
    words = jit._processor()
    if jit.machine.processor() is None:
        pytest.skip("this system does not describe its processor")
    monkeypatch.setattr(jit, "_llvm", None)
    assert jit._processor() == words
    monkeypatch.setattr(jit.machine, "processor", lambda: "another one")
    with pytest.raises(TypeError):
        jit._processor()


def test_host_is_described():
    host = jit.host()
    assert host is jit.host()
    assert host.architecture
    assert host.cores >= 1
    assert 0 < host.l1_bytes <= host.l2_bytes
    assert host.feature_string.count("+") == len(host.features)
    assert "-" not in {feature[0] for feature in host.feature_string.split(",") if feature}


@pytest.mark.parametrize(
    ("triple", "features", "instruction"),
    [
        ("x86_64-unknown-linux-gnu", "+avx2,+fma", "vfmadd"),
        ("x86_64-unknown-linux-gnu", "+avx512f,+avx512vl", "vfmadd"),
        ("aarch64-unknown-linux-gnu", "+neon", "fmla"),
        ("arm64-apple-macosx", "+neon", "fmla"),
    ],
)
def test_code_for_other_machines(triple, features, instruction):
    assert instruction in jit.assembly(SCALE, triple, features)
    assert len(jit.compile_object(SCALE, triple, features)) > 100


def test_vectors_keep_the_width_they_were_given():
    eight = jit.assembly(SCALE, "x86_64-unknown-linux-gnu", "+avx2,+fma")
    assert "%ymm" in eight
    sixteen = jit.assembly(
        SCALE.replace("<8 x", "<16 x").replace("v8f32", "v16f32"), "x86_64-unknown-linux-gnu", "+avx512f,+avx512vl,+fma"
    )
    assert "%zmm" in sixteen
    assert "%ymm" not in sixteen


def test_an_unknown_machine_is_refused():
    with pytest.raises(jit.CompileError, match="abacus"):
        jit.assembly(ADD, "abacus-unknown-none", "")


def test_importing_costs_no_llvm():
    program = "import sys, starconv.engine.runtime.threads; assert 'llvmlite' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_llvmlite_there_is_a_reason_and_no_exception():
    program = """
import sys
sys.modules["llvmlite"] = sys.modules["llvmlite.binding"] = None
from starconv.engine.runtime import jit
assert jit.available().startswith("llvmlite cannot be imported"), jit.available()
assert jit.host().features == frozenset() and jit.host().cores >= 1
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    "refuse",
    [
        "image._library().mprotect = lambda *arguments: ctypes.set_errno(13) or -1",
        "image.image_of = lambda *arguments: None; llvmlite.binding.check_jit_execution = refuse",
    ],
)
def test_where_executable_memory_is_forbidden_there_is_a_reason(refuse):
    program = f"""
import ctypes
import llvmlite.binding
from starconv.engine.runtime import image, jit
def refuse():
    raise OSError(13, "Permission denied")
{refuse}
assert "Permission denied" in jit.available()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_kernels_on_disk_need_no_llvm():
    program = """
import sys
import numpy as np, starconv as sc
x, w = np.ones((1, 8, 9, 9), "float32"), np.ones((8, 8, 3, 3), "float32")
assert (sc.conv2d(x, w) == 72).all()
print("llvmlite.binding" in sys.modules)
"""
    runs = [subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True) for _ in "12"]
    assert [run.stdout.strip() for run in runs] == ["True", "False"]


def test_what_is_no_image_is_linked_by_llvm(monkeypatch):
    monkeypatch.setattr(image, "image_of", lambda *arguments: None)
    for text in (ADD, ADD):  # compiled, then from disk
        module = compile_here(text + "; linked")
        assert BINARY(module.address("add"))(40, 2) == 42
        del module
        gc.collect()
