"""What an emitter must know of a processor: width of a vector, number of registers, whether there is an fma.

Algorithms are written once and ask the target; nothing else in the engine tells processors apart.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache

from ...errors import ArgumentValueError, choices
from ..runtime import jit

__all__ = ["LEVELS", "Target", "host_target", "named_target", "runs_here"]

_AVX2 = "+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe"
# Without the last one LLVM may split <16 x float> in two; evex512 is implied by avx512f since LLVM 20.
_AVX512 = _AVX2 + ",+avx512f,+avx512vl,+avx512dq,+avx512bw,+avx512cd,-prefer-256-bit"


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of processor that code is generated for.

    Attributes:
        name: "avx512", "avx2", "sse" or "neon".
        triple: LLVM's name of architecture and system.
        features: LLVM's feature string; part of every cache key, because it decides what the object may use.
        vector_bytes: width of a vector register.
        registers: how many of them there are.
        has_fma: whether a * b + c is one instruction with one rounding.
        tuning: the processor whose latencies LLVM orders instructions by; it changes neither features nor results.
        passes: cycles for which a unit is busy with one vector: 2 where halves of it go through one after the other.
        l1_bytes, l2_bytes, l3_bytes: data caches as one core sees them.
        last_rate, memory_rate: bytes per cycle that a core reads from the last cache and from memory beside its
            arithmetic.
        cores: cores that this process may use.
    """

    name: str
    triple: str
    features: str
    vector_bytes: int
    registers: int
    has_fma: bool
    tuning: str = ""
    passes: int = 1
    l1_bytes: int = 32 << 10
    l2_bytes: int = 512 << 10
    l3_bytes: int = 8 << 20
    cores: int = 1
    last_rate: float = 30.0
    memory_rate: float = 8.0

    def lanes(self, itemsize: int) -> int:
        """Elements of `itemsize` bytes in one vector."""
        return self.vector_bytes // itemsize

    def halved(self) -> "Target":
        """With vectors of half the width, which units that take whole ones in two passes compute twice as often."""
        return replace(self, vector_bytes=self.vector_bytes // 2, passes=1)

    def moving(self, size: int) -> float:
        """Seconds in which all cores together move so many bytes: through the last cache, if half of it has room."""
        if size <= self.l3_bytes // 2:
            return size / (30e9 * min(self.cores, 2))
        return size / (12e9 if self.cores == 1 else 20e9)  # one core alone does not use all there is

    def read_rate(self, size: int) -> float:
        """Bytes per cycle at which a core reads what takes up `size` bytes in all, from where that fits."""
        if size <= self.l2_bytes:
            return 48.0
        if size <= self.l3_bytes // 3:
            return self.last_rate
        return self.last_rate * 2 / 3 if size <= self.l3_bytes * 3 // 4 else self.memory_rate


LEVELS = ("avx512", "avx2", "sse", "neon")
"""Every kind of target, best first per architecture."""

# Without a tuning LLVM has old (x86-64) or in-order processors (AArch64) in mind and loads so early that registers
# run out: of 1176 multiply-adds of ResNet's first layer on NEON it took 1479 trips to the stack, with it none.
_KINDS = {  # name: architecture, feature string, vector bytes, registers, fma, tuning
    "avx512": ("x86_64", _AVX512, 64, 32, True, "znver4"),
    "avx2": ("x86_64", _AVX2, 32, 16, True, "znver3"),
    "sse": ("x86_64", "+sse2", 16, 16, False, ""),
    "neon": ("aarch64", "+neon", 16, 32, True, "apple-m1"),
}
_BASELINE = ("sse", "neon")
"""What every processor of its architecture can run, even where the system does not list its features."""


def named_target(name: str) -> Target:
    """The target `name` with this machine's caches and cores: for tests, and for looking at another target's code.

    It can be compiled anywhere; whether it can be run here, :func:`runs_here` says.
    """
    if name not in _KINDS:
        raise ArgumentValueError("target", name, choices(LEVELS))
    architecture, features, vector_bytes, registers, has_fma, tuning = _KINDS[name]
    host = jit.host()
    triple = host.triple if host.architecture == architecture else f"{architecture}-unknown-linux-gnu"
    caches = (host.l1_bytes, host.l2_bytes, host.l3_bytes, host.cores)
    passes = 2 if vector_bytes == 64 and _in_halves(host.features) else 1
    target = Target(name, triple, features, vector_bytes, registers, has_fma, tuning, passes, *caches)
    if not _has_mesh(host.features):
        return target
    # Measured on 2 cores of an Emerald Rapids that says 300 MiB: 20 GB/s each up to some 16 MiB each, 10 beyond, which
    # is 10 and 5 bytes per cycle at the 2 GHz that its arithmetic has. Products hide some of that.
    share = min(host.l3_bytes, host.cores * 16 << 20)
    return replace(target, l3_bytes=share, last_rate=14.0, memory_rate=6.0)


def _in_halves(features: Collection[str]) -> bool:
    """Whether this is a Zen 4, whose units are 256 bits wide: AMD's first AVX-512, told by what its next one added."""
    return "sse4a" in features and "avx512vp2intersect" not in features


def _has_mesh(features: Collection[str]) -> bool:
    """Whether this is one of Intel's servers: a last cache that all cores share, large, far away and slow for each."""
    return "avx512f" in features and "sse4a" not in features


def runs_here(name: str) -> bool:
    """Whether this processor has every feature that code for the target `name` may use."""
    architecture, features, *_ = _KINDS[name]
    host = jit.host()
    needed = {feature[1:] for feature in features.split(",") if feature.startswith("+")}
    return host.architecture == architecture and (name in _BASELINE or needed <= host.features)


@cache
def host_target() -> Target | None:
    """The best target that this machine can run; None where no compiled code can be had (see ``jit.available``)."""
    if jit.available() is not None:
        return None
    return next((named_target(name) for name in LEVELS if runs_here(name)), None)
