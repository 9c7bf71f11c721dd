"""The machine and the versions a table was taken with, in words that say nothing about whose machine it is."""

import os
import platform
import re
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import llvmlite.binding as llvm

FEATURES = ("avx512f", "avx512_bf16", "amx-tile", "avx2", "fma", "avx", "sse4.2", "neon", "sve")
PACKAGES = ("starconv", "numpy", "scipy", "llvmlite", "torch", "onnxruntime", "openvino", "opencv-python-headless")
DEFAULT_CACHE = {1: 32 << 10, 2: 1 << 20, 3: 32 << 20}


@dataclass(frozen=True, slots=True)
class Machine:
    """What a reader needs in order to judge a table."""

    processor: str
    features: str
    cores: int
    caches: str
    system: str
    python: str
    versions: dict[str, str]

    def lines(self) -> list[str]:
        """The description as the items of a Markdown list."""
        packages = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return [
            f"- {self.processor}, {self.cores} cores, {self.features}; {self.caches}",
            f"- {self.system}, Python {self.python}, {packages}",
        ]


def describe() -> Machine:
    """This machine."""
    features = llvm.get_host_cpu_features()
    known = [name for name in FEATURES if features.get(name)]
    caches = ", ".join(f"L{level} {cache_bytes(level) / 2**20:g} MiB" for level in (2, 3))
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    system = f"{platform.system()} {platform.machine()}"
    return Machine(_processor(), " ".join(known), cores(), caches, system, platform.python_version(), versions)


def as_dict(machine: Machine) -> dict[str, object]:
    """The description for a JSON file."""
    return asdict(machine)


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_bytes(level: int) -> int:
    """Size of the data cache at `level`, of one core or of a group that shares it; a usual size where unknown."""
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, depth, size = ((folder / name).read_text().strip() for name in ("type", "level", "size"))
        except OSError:
            continue
        number = re.fullmatch(r"(\d+)([KM])", size)
        if number and int(depth) == level and kind != "Instruction":
            return int(number[1]) << {"K": 10, "M": 20}[number[2]]
    return DEFAULT_CACHE[level]


class Load:
    """How much of the machine others used while something was measured."""

    def __init__(self) -> None:
        self._start = self._reading()

    def others(self) -> float | None:
        """Part of all processors' time that went to other processes since the start; None where nobody counts it."""
        now = self._reading()
        if self._start is None or now is None:
            return None
        busy, own, wall = (after - before for after, before in zip(now, self._start, strict=True))
        return max(0.0, busy - own) / max(wall * (os.cpu_count() or 1), 1e-9)

    @staticmethod
    def _reading() -> tuple[float, float, float] | None:
        """Seconds: of all processors in use, of our own processes, of the clock."""
        try:
            ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        except OSError:
            return None
        idle = ticks[3] + ticks[4]
        used = os.times()
        own = used.user + used.system + used.children_user + used.children_system
        return (sum(ticks[:8]) - idle) / os.sysconf("SC_CLK_TCK"), own, time.perf_counter()


def _processor() -> str:
    """The processor's name, with LLVM's name for its kind, which hypervisors do not hide."""
    name = platform.processor() or platform.machine()
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return f"{found[1].strip() if found else name} ({llvm.get_host_cpu_name()})"
