"""Cores, memory and caches as read from files that look like Linux's."""

import os

import pytest

from starconv.engine.runtime import machine

QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "400000 100000\n"}, 4.0),
        ("0::/a/b\n", {"a/b/cpu.max": "800000 100000\n", "a/cpu.max": "400000 100000\n"}, 4.0),
        ("0::/a\n", {"a/cpu.max": "max 100000\n"}, None),
        ("0::/not/visible\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("0::/../x\n", {"x/cpu.max": "100000 100000\n"}, 1.0),
        ("0::/\n", {"cpu.max": "broken\n"}, None),
        ("0::/\n", {"cpu.max": "100000 0\n"}, None),
        ("4:cpu,cpuacct:/d\n", {f"cpu,cpuacct/d/{QUOTA}": "50000", f"cpu,cpuacct/d/{PERIOD}": "100000"}, 0.5),
        ("4:cpu:/d\n", {"cpu/d/cpu.cfs_quota_us": "-1", "cpu/d/cpu.cfs_period_us": "100000"}, None),
        ("4:cpu,cpuacct:/d\n", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3.0),
        ("5:cpuset:/\n1:name=systemd:/x\n", {"cpuset/cpu.cfs_quota_us": "1"}, None),
        ("nonsense\n\n", {}, None),
    ],
)  # fmt: skip
def test_cgroup_limit(tmp_path, membership, files, limit):
    write(tmp_path / "membership", membership)
    for name, text in files.items():
        write(tmp_path / "cgroup" / name, text)
    assert machine.cgroup_limit(tmp_path / "membership", tmp_path / "cgroup") == limit


def test_no_cgroups_at_all(tmp_path):
    assert machine.cgroup_limit(tmp_path / "missing", tmp_path) is None


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "1048576\n", "memory.max": "2097152\n"}, 2**20),
        ("0::/not/visible\n", {"memory.max": "4096\n"}, 4096),
        ("7:memory:/d\n", {"memory/d/memory.limit_in_bytes": "8192\n"}, 8192),
        ("7:memory:/d\n", {"memory/d/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ("0::/\n", {"memory.max": "broken\n"}, None),
        ("0::/\n", {}, None),
    ],
)
def test_memory_follows_the_machine_and_cgroups(tmp_path, monkeypatch, membership, files, limit):
    write(tmp_path / "membership", membership)
    for name, text in files.items():
        write(tmp_path / "cgroup" / name, text)
    places = tmp_path / "membership", tmp_path / "cgroup"
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 2**20, "SC_PAGE_SIZE": 4096}.get, raising=False)
    assert machine.usable_memory(*places) == (limit or 2**32)
    monkeypatch.delattr(os, "sysconf")
    known = None if limit is None and "limit" not in str(files) else limit or 9223372036854771712
    assert machine.usable_memory(*places) == known


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity")
def test_cores_follow_affinity_siblings_and_quota(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "cgroup_limit", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 5})
    assert machine.usable_cores(tmp_path) == 4
    for processor, siblings in {0: "0,4", 1: "1,5", 2: "2,6", 5: "1,5"}.items():
        write(tmp_path / f"cpu{processor}/topology/thread_siblings_list", siblings + "\n")
    assert machine.usable_cores(tmp_path) == 3
    monkeypatch.setattr(machine, "cgroup_limit", lambda: 1.5)
    assert machine.usable_cores(tmp_path) == 2
    monkeypatch.setattr(machine, "cgroup_limit", lambda: 0.2)
    assert machine.usable_cores(tmp_path) == 1


def test_cores_where_the_system_knows_no_affinity(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(machine, "cgroup_limit", lambda: None)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert machine.usable_cores(tmp_path) == 6


def test_cache_sizes(tmp_path):
    assert machine.cache_sizes(tmp_path) == machine.DEFAULT_CACHES
    for index, (level, kind, size) in enumerate(
        [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2M"), ("3", "Unified", "rubbish")]
    ):
        for name, text in {"level": level, "type": kind, "size": size}.items():
            write(tmp_path / f"cpu0/cache/index{index}/{name}", text + "\n")
    assert machine.cache_sizes(tmp_path) == (48 * 1024, 2 * 1024 * 1024, machine.DEFAULT_CACHES[2])


def test_processors_differ_by_model_and_features(tmp_path):
    def described(model, mhz, flags):
        path = tmp_path / "cpuinfo"
        one = f"vendor_id\t: AuthenticAMD\nmodel name\t: {model}\ncpu MHz\t\t: {mhz}\nflags\t\t: {flags}\n"
        path.write_text(f"processor\t: 0\n{one}\nprocessor\t: 1\n{one}")
        return machine.processor(path)

    first = described("EPYC", 2600.5, "fma avx2")
    assert first == described("EPYC", 1800, "fma avx2")
    assert len({first, described("EPYC", 2600.5, "fma avx2 avx512f"), described("Ryzen", 2600.5, "fma avx2")}) == 3


def test_a_processor_that_is_not_described_is_not_told_apart(tmp_path):
    assert machine.processor(tmp_path / "missing") is None
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\n")
    assert machine.processor(tmp_path / "cpuinfo") is None


@pytest.mark.parametrize(
    ("text", "model"),
    [
        (
            "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD  EPYC\n"
            "stepping\t: 1\nflags\t\t: fpu avx\n\nprocessor\t: 1\nmodel\t\t: 18\n",
            "AuthenticAMD 25 17 1 AMD EPYC",
        ),
        (
            "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\n"
            "CPU part\t: 0xd0c\nCPU revision\t: 1\n",
            "0x41 8 0x3 0xd0c 1",
        ),
    ],
)
def test_the_model_of_the_processor(tmp_path, text, model):
    write(tmp_path / "cpuinfo", text)
    assert machine.processor_model(tmp_path / "cpuinfo") == model


def test_the_model_where_the_system_does_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    monkeypatch.setattr(machine.platform, "machine", lambda: "riscv64")
    write(tmp_path / "cpuinfo", "\x00nothing\nlike: it\n")
    assert machine.processor_model(tmp_path / "cpuinfo") == "riscv64"
    assert machine.processor_model(tmp_path / "missing") == "riscv64"
