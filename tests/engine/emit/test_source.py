"""Kernels that are on disk are found by name, without writing their text; what decides the text is in the name."""

import os

import pytest

from starconv.engine.emit.source import emitted
from starconv.engine.runtime import cache, jit

WRITTEN = []
SCALE = 3


@emitted("answer")
def answer(number: int, kind: str) -> str:
    WRITTEN.append(number)
    return f"define i64 @answer() nounwind {{\n  ret i64 {number * SCALE}\n}}\n; {kind}"


@pytest.fixture(autouse=True)
def fresh_names(monkeypatch, tmp_path):
    reason = jit.available()
    if reason is not None:
        pytest.skip(reason)
    monkeypatch.setenv("STARCONV_CACHE_DIR", str(tmp_path))
    WRITTEN.clear()
    answer.cache_clear()


def compile_and_forget(source):
    """The bytes of the code, which are no longer in memory afterwards."""
    module = jit.compile_module(source, features="")
    assert module.address("answer")
    del module


def test_a_text_is_written_once(monkeypatch):
    monkeypatch.setattr(jit, "_sources", lambda: "some digest")
    for _ in range(3):
        compile_and_forget(answer(7, "plain"))
    assert WRITTEN == [7]


def test_other_arguments_constants_or_sources_are_other_kernels(monkeypatch):
    monkeypatch.setattr(jit, "_sources", lambda: "some digest")
    compile_and_forget(answer(7, "plain"))
    compile_and_forget(answer(7, "other"))
    monkeypatch.setattr(f"{__name__}.SCALE", 4)
    answer.cache_clear()
    compile_and_forget(answer(7, "plain"))
    monkeypatch.setattr(jit, "_sources", lambda: "another digest")
    compile_and_forget(answer(7, "plain"))
    assert WRITTEN == [7] * 4


def test_without_a_digest_the_text_decides(monkeypatch):
    keys = []
    monkeypatch.setattr(jit, "_sources", lambda: None)
    monkeypatch.setattr(cache, "load", lambda name: keys.append(name))
    compile_and_forget(answer(7, "plain"))
    compile_and_forget(str(answer(7, "plain")))
    assert len(set(keys)) == 1
    assert WRITTEN == [7, 7]


def test_files_that_changed_while_the_process_runs_are_not_trusted(monkeypatch):
    digest = jit._sources.__wrapped__
    monkeypatch.setattr(jit, "_BEGAN", 1)
    assert digest() is None
    monkeypatch.setattr(jit, "_BEGAN", 1 << 62)
    assert len(digest() or "") == 64


@pytest.mark.skipif(os.name != "posix", reason="the time when a file was put in its place is kept by POSIX")
def test_files_that_were_replaced_by_ones_of_an_old_date_are_not_trusted(monkeypatch, tmp_path):
    place = tmp_path / "engine" / "runtime" / "jit.py"
    place.parent.mkdir(parents=True)
    place.write_text("another version")
    os.utime(place, (1, 1))  # as package managers do that link files from a cache
    monkeypatch.setattr(jit, "__file__", str(place))
    assert jit._sources.__wrapped__() is None
    monkeypatch.setattr(jit, "_BEGAN", 1 << 62)
    assert jit._sources.__wrapped__() is not None
