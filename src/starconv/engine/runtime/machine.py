"""What this process may use of the machine: cores, memory (container limits), cache sizes; and which machine it is.

Everything here is read from the operating system and may be wrong or missing on some host, so each
reader has a default that is merely slower, never wrong.
"""

import math
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

__all__ = ["cache_sizes", "cgroup_limit", "processor", "processor_model", "usable_cores", "usable_memory"]

Limit = TypeVar("Limit", bound=float)

# What a desktop core of the last ten years has at least; used where the system does not say.
DEFAULT_CACHES = (32 * 1024, 256 * 1024, 4 * 1024 * 1024)

_DEVICES = Path("/sys/devices/system/cpu")


def processor(description: Path = Path("/proc/cpuinfo")) -> str | None:
    """What tells one kind of processor from another, its features included; None where the system does not say."""
    lines = _first_processor(description)
    lines = [line for line in lines if line.startswith(("vendor_id", "cpu family", "model", "flags"))]
    return "\n".join(lines) if any(line.startswith("flags") for line in lines) else None


def processor_model(description: Path = Path("/proc/cpuinfo")) -> str:
    """The kind of processor in one line, without its features: "AuthenticAMD 25 17 1 AMD EPYC".

    Vendor, family, model, stepping and name as the kernel lists them, on ARM implementer and part; elsewhere what
    Python knows. Unlike :func:`processor` it stays the same when the kernel lists more features.
    """
    found: dict[str, str] = {}
    for line in _first_processor(description):
        name, _, value = line.partition(":")
        found[name.strip()] = " ".join(value.split())
    told = [found[name] for name in _MODEL_FIELDS if found.get(name)]
    return " ".join(told) or platform.processor() or platform.machine()


def _first_processor(description: Path) -> list[str]:
    """The lines about the first processor; none where the system does not say."""
    try:
        with open(description, "rb") as file:
            return file.read(8192).decode(errors="replace").partition("\n\n")[0].splitlines()
    except OSError:
        return []


_MODEL_FIELDS = (
    *("vendor_id", "cpu family", "model", "stepping", "model name"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision"),
)
"""Lines of /proc/cpuinfo that tell processors apart; x86's, then ARM's."""


def usable_cores(devices: Path = _DEVICES) -> int:
    """How many threads can compute at full speed at once: cores in the affinity mask, within the container's quota.

    Two hardware threads of one core share its multipliers, and one thread of a good kernel keeps those
    busy, so siblings count once.
    """
    try:
        processors = os.sched_getaffinity(0)
    except AttributeError:  # macOS and Windows have no such call
        processors = set(range(os.cpu_count() or 1))
    cores = {_siblings(devices, processor) for processor in processors}
    limit = cgroup_limit()
    return max(1, len(cores) if limit is None else min(len(cores), math.ceil(limit)))


def _siblings(devices: Path, processor: int) -> str:
    try:
        return (devices / f"cpu{processor}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(processor)


_MEMBERSHIP, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cgroup_limit(membership: Path = _MEMBERSHIP, root: Path = _GROUPS) -> float | None:
    """The number of processors (1.5 is possible) that the control groups of this process allow, or None."""
    return _smallest("cpu", _quota_v2, _quota_v1, membership, root)


def usable_memory(membership: Path = _MEMBERSHIP, root: Path = _GROUPS) -> int | None:
    """Bytes of memory that this process may use: the machine's, or what its control groups allow; None if not known."""
    allowed = _smallest("memory", _memory_v2, _memory_v1, membership, root)
    try:
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf, others not these names
        return allowed
    # Without a limit of its own, v1 says the largest number of pages that there can be.
    return whole if allowed is None else min(whole, allowed)


def _smallest(
    controller: str,
    read_v2: Callable[[Path], Limit | None],
    read_v1: Callable[[Path], Limit | None],
    membership: Path,
    root: Path,
) -> Limit | None:
    """The smallest limit of a controller that the control groups of this process have, or None.

    A limit set on any ancestor holds too, so the smallest one counts. Inside a container the path that
    `membership` names is often not visible, but then its root is the container's own group.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    limits: list[Limit] = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            mounts, read = [root, root / "unified"], read_v2
        elif controller in controllers.split(","):
            mounts, read = [root / controllers, root / controller], read_v1
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for mount in mounts:
            groups = [mount.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
            limits += [quota for quota in map(read, groups) if quota is not None]
    return min(limits, default=None)


def _quota_v2(group: Path) -> float | None:
    """``cpu.max`` holds "quota period" in microseconds, or "max period"."""
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return _ratio(int(quota), int(period))
    except (OSError, ValueError):
        return None


def _quota_v1(group: Path) -> float | None:
    """Two files, and a quota of -1 where there is no limit."""
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        return _ratio(quota, int((group / "cpu.cfs_period_us").read_text()))
    except (OSError, ValueError):
        return None


def _memory_v2(group: Path) -> int | None:
    """``memory.max`` holds bytes, or "max"."""
    return _positive(group / "memory.max")


def _memory_v1(group: Path) -> int | None:
    return _positive(group / "memory.limit_in_bytes")


def _positive(path: Path) -> int | None:
    try:
        return max(int(path.read_text()), 0) or None
    except (OSError, ValueError):
        return None


def _ratio(quota: int, period: int) -> float | None:
    return quota / period if quota > 0 and period > 0 else None


def cache_sizes(devices: Path = _DEVICES) -> tuple[int, int, int]:
    """Bytes of the data caches of levels 1, 2 and 3 that one core sees (a shared cache counts whole)."""
    sizes = list(DEFAULT_CACHES)
    for index in sorted(devices.glob("cpu0/cache/index*")):
        try:
            level = int((index / "level").read_text())
            kind = (index / "type").read_text().strip()
            size = _bytes((index / "size").read_text().strip())
        except (OSError, ValueError):
            continue
        if kind in ("Data", "Unified") and 1 <= level <= 3 and size > 0:
            sizes[level - 1] = size
    return sizes[0], sizes[1], sizes[2]


def _bytes(text: str) -> int:
    """``"32K"`` and ``"16M"`` as sysfs writes them."""
    units = {"K": 1024, "M": 1024**2, "G": 1024**3}
    return int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text)
