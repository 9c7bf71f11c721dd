"""Whatever is wrong with a cached file, it is not used; whatever is wrong with the disk, nobody notices."""

import os
import subprocess
import sys

import pytest

from starconv.engine.runtime import cache

posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX")
root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="giving files away needs root")

NAME = cache.key("text", "features")
PAYLOAD = bytes(range(256)) * 5


@pytest.fixture
def directory(tmp_path, monkeypatch):
    path = tmp_path / "cache"
    monkeypatch.setenv("STARCONV_CACHE_DIR", str(path))
    return path


@pytest.fixture
def stored(directory):
    cache.store(NAME, PAYLOAD)
    (file,) = directory.iterdir()
    assert cache.load(NAME) == PAYLOAD
    return file


def test_what_is_stored_is_found_under_its_key_only(directory):
    assert cache.load(NAME) is None
    cache.store(NAME, PAYLOAD)
    cache.store(cache.key("other"), b"")
    assert cache.load(NAME) == PAYLOAD
    assert cache.load(cache.key("other")) == b""
    assert cache.load(cache.key("textfeatures")) is None
    assert cache.status().files == 2
    assert cache.status().reason is None
    assert cache.status().directory == directory


def test_keys_do_not_collide_when_parts_move():
    assert len({cache.key(*parts) for parts in [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc")]}) == 5


@posix
def test_directory_and_files_are_private(stored):
    assert stored.parent.stat().st_mode & 0o777 == 0o700
    assert stored.stat().st_mode & 0o777 == 0o600


def test_every_truncation_is_ignored(stored):
    whole = stored.read_bytes()
    for length in [*range(0, 200), len(whole) - 1]:
        stored.write_bytes(whole[:length])
        assert cache.load(NAME) is None, length
    stored.write_bytes(whole + b"x")
    assert cache.load(NAME) is None


def test_every_flipped_bit_is_ignored(stored):
    whole = stored.read_bytes()
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        stored.write_bytes(damaged)
        assert cache.load(NAME) is None, position
    cache.store(NAME, PAYLOAD)
    assert cache.load(NAME) == PAYLOAD


def test_a_sound_file_under_another_name_is_ignored(stored):
    other = cache.key("other")
    stored.rename(stored.with_name(stored.name.replace(NAME.hex(), other.hex())))
    assert cache.load(other) is None


@posix
def test_a_link_is_ignored(stored):
    moved = stored.rename(stored.parent.parent / "elsewhere")
    stored.symlink_to(moved)
    assert cache.load(NAME) is None
    cache.store(NAME, PAYLOAD)
    assert not stored.is_symlink()
    assert cache.load(NAME) == PAYLOAD


@posix
def test_a_pipe_or_directory_under_the_name_is_ignored(stored):
    stored.unlink()
    os.mkfifo(stored)
    assert cache.load(NAME) is None
    stored.unlink()
    stored.mkdir()
    assert cache.load(NAME) is None
    cache.store(NAME, PAYLOAD)
    assert cache.load(NAME) is None
    assert [path.name for path in stored.parent.iterdir()] == [stored.name]


@posix
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_ignored(stored, mode):
    stored.chmod(mode)
    assert cache.load(NAME) is None


@posix
@root
def test_a_file_of_another_user_is_ignored(stored):
    os.chown(stored, 12345, -1)
    assert cache.load(NAME) is None


@posix
def test_a_file_of_another_user_is_ignored_without_being_root(stored, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: stored.stat().st_uid + 1)
    assert cache.load(NAME) is None
    assert "belongs to user" in cache.status().reason


@posix
@root
def test_a_directory_of_another_user_is_refused(stored):
    os.chown(stored.parent, 12345, -1)
    assert cache.load(NAME) is None
    assert "belongs to user 12345" in cache.status().reason


@posix
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_directory_that_others_may_write_is_refused(stored, mode):
    stored.parent.chmod(mode)
    assert cache.load(NAME) is None
    cache.store(cache.key("other"), PAYLOAD)
    assert len(list(stored.parent.iterdir())) == 1
    assert f"{mode:04o}" in cache.status().reason


@posix
def test_a_link_in_place_of_the_directory_is_refused(stored, tmp_path, monkeypatch):
    link = tmp_path / "link"
    link.symlink_to(stored.parent)
    monkeypatch.setenv("STARCONV_CACHE_DIR", str(link))
    assert cache.load(NAME) is None
    assert "not a plain directory" in cache.status().reason


def test_a_file_in_place_of_the_directory(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("STARCONV_CACHE_DIR", str(place))
        cache.store(NAME, PAYLOAD)
        assert cache.load(NAME) is None
        assert cache.status().reason


def test_switched_off(directory, monkeypatch):
    monkeypatch.setenv("STARCONV_CACHE_DIR", "off")
    cache.store(NAME, PAYLOAD)
    assert cache.load(NAME) is None
    assert cache.status() == cache.Status(None, "switched off by STARCONV_CACHE_DIR=off")


@posix
@pytest.mark.skipif(sys.platform == "darwin", reason="Linux's place")
def test_default_place(tmp_path, monkeypatch):
    monkeypatch.delenv("STARCONV_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, expected in [
        (str(tmp_path / "xdg"), tmp_path / "xdg/starconv"),
        ("relative", tmp_path / ".cache/starconv"),
        ("", tmp_path / ".cache/starconv"),
    ]:
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert cache.status().directory == expected


def test_a_full_disk_leaves_nothing_behind(directory, monkeypatch):
    cache.store(cache.key("other"), PAYLOAD)

    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    cache.store(NAME, PAYLOAD)
    assert len(list(directory.iterdir())) == 1
    assert cache.load(NAME) is None


def test_a_read_only_directory_is_gone_without(directory, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    cache.store(NAME, PAYLOAD)
    assert cache.load(NAME) is None


def test_size_is_bounded_and_the_files_used_last_stay(directory, monkeypatch):
    monkeypatch.setattr(cache, "LIMIT_BYTES", 20_000)
    names = [cache.key(str(number)) for number in range(12)]
    for age, name in enumerate(names[:9]):
        cache.store(name, bytes(2000))
        path = directory / (name.hex() + ".object")
        os.utime(path, (1000 + age, 1000 + age))
    (directory / "left-by-a-killed-process.part").write_bytes(bytes(500))
    os.utime(directory / "left-by-a-killed-process.part", (1, 1))
    (directory / "not ours").write_bytes(bytes(500))
    assert cache.load(names[0]) is not None  # makes it the one used last
    cache.store(names[9], bytes(2000))
    assert cache.status().bytes <= 15_000
    kept = [number for number, name in enumerate(names) if cache.load(name) is not None]
    assert kept == [0, 4, 5, 6, 7, 8, 9]  # 7 files of 2090 bytes are the most that 15,000 hold
    assert not (directory / "left-by-a-killed-process.part").exists()
    assert (directory / "not ours").exists()
    cache.store(names[10], bytes(30_000))
    assert cache.load(names[10]) is None


def test_processes_at_once_never_see_half_a_file(directory):
    program = """
import sys
from starconv.engine.runtime import cache
name = cache.key("shared")
for round in range(200):
    payload = bytes([round % 7]) * (1000 + 4000 * (round % 5))
    cache.store(name, payload)
    found = cache.load(name)
    assert found is not None and len(set(found)) == 1 and (len(found) - 1000) % 4000 == 0
"""
    writers = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(list(directory.iterdir())) == 1
