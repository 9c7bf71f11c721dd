"""What this machine can do at most: multiply-adds per second and bytes per second, measured with two emitted loops.

A call that does `flops` and moves `bytes` cannot take less than max(flops / peak, bytes / bandwidth): the roofline of
S. Williams, A. Waterman and D. Patterson, "Roofline: an insightful visual performance model", CACM 2009. Bandwidth is
that of the smallest level of memory that holds the call's arrays, since a benchmark repeats its call. Winograd and
Fourier transforms do fewer operations than the definition, so their fraction of this roofline can pass 1.
"""

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm
import numpy as np

from starconv.problem import Problem

from .machine import cache_bytes

CHAINS = 12
"""Independent sums. Two units with a latency of 4 cycles need 8 at least; 12 and two constants fit 16 registers."""


@dataclass(frozen=True, slots=True)
class Roofline:
    """Measured limits for a number of threads. A multiply-add is two operations; a copied byte is two moved."""

    threads: int
    peak: float
    """float32 operations per second."""
    levels: tuple[tuple[str, int, float], ...]
    """(name, bytes that fit, bytes per second), smallest first."""

    def floor(self, problem: Problem) -> float:
        """Seconds below which the definition's arithmetic and traffic cannot go."""
        moved = problem.bytes_moved
        bandwidth = next((speed for _, size, speed in self.levels if moved <= size), self.levels[-1][2])
        return max(2 * problem.multiply_adds / (self.peak * 4 / problem.itemsize), moved / bandwidth)

    def __str__(self) -> str:
        speeds = ", ".join(f"{name} {speed / 1e9:.0f} GB/s" for name, _, speed in self.levels)
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{threads}: {self.peak / 1e9:.0f} GFLOP/s float32; copying: {speeds}"


def measure(threads: int, seconds: float = 0.3) -> Roofline:
    """The limits for `threads` threads; takes about four times `seconds`."""
    library, lanes = _compiled()
    sums = np.ones(CHAINS * lanes, "float32")
    turns = 1_000_000
    flops = threads * turns * CHAINS * lanes * 2
    peak = _best(lambda _: library["peak"](turns, sums.ctypes.data), threads, flops, seconds)
    l2, l3 = cache_bytes(2), cache_bytes(3)
    levels = [
        ("L2", l2 * threads, _copy_speed(library["copy"], threads, l2 // 4, seconds)),
        ("L3", l3, _copy_speed(library["copy"], threads, l3 // 8 // threads, seconds)),
    ]
    # Past the caches the C library's copy, which bypasses them, is the faster one.
    large = 4 * l3 // threads
    pairs = [(np.ones(large, "u1"), np.ones(large, "u1")) for _ in range(threads)]
    memory = _best(lambda number: np.copyto(*pairs[number]), threads, 2 * large * threads, seconds)
    levels.append(("memory", 1 << 62, memory))
    return Roofline(threads, peak, tuple(levels))


def _copy_speed(copy: Callable[[int, int, int, int], None], threads: int, size: int, seconds: float) -> float:
    """Bytes read and written per second when every thread copies its own `size` bytes again and again."""
    pairs = [(np.ones(size, "u1"), np.ones(size, "u1")) for _ in range(threads)]
    addresses = [(target.ctypes.data, source.ctypes.data) for target, source in pairs]
    turns = max(1, (16 << 20) // size)
    return _best(lambda number: copy(*addresses[number], size, turns), threads, 2 * size * turns * threads, seconds)


def _best(work: Callable[[int], object], threads: int, amount: float, seconds: float) -> float:
    """Most `amount` per second of `work` done by all threads at once, over repetitions for `seconds`."""
    best = 0.0
    end = time.perf_counter() + seconds
    while best == 0.0 or time.perf_counter() < end:
        gate = threading.Barrier(threads)
        spans: list[tuple[float, float]] = []

        def run(number: int, gate: threading.Barrier = gate, spans: list[tuple[float, float]] = spans) -> None:
            gate.wait()
            start = time.perf_counter()
            work(number)
            spans.append((start, time.perf_counter()))

        workers = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = max(best, amount / (max(end for _, end in spans) - min(start for start, _ in spans)))
    return best


@cache
def _compiled() -> tuple[dict[str, Callable[..., None]], int]:
    """The two loops as functions, and how many float32 values a vector of this processor holds."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    lanes = 16 if features.get("avx512f") else 8 if features.get("avx") else 4
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=3
    )
    module = llvm.parse_assembly(_peak_text(lanes) + _copy_text(lanes))
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    signatures = {"peak": [ctypes.c_int64, ctypes.c_void_p], "copy": [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 2}
    functions = {}
    for name, arguments in signatures.items():
        function = ctypes.CFUNCTYPE(None, *arguments)(engine.get_function_address(name))
        function.engine = engine  # type: ignore[attr-defined]  # keeps the code alive
        functions[name] = function
    return functions, lanes


def _peak_text(lanes: int) -> str:
    """for turn in range(turns): every sum = sum * 0.999 + 0.001, which tends to 1 and so stays an ordinary number."""
    vector = f"<{lanes} x float>"
    fma = f"@llvm.fmuladd.v{lanes}f32"

    def constant(bits: str) -> str:
        return "<" + ", ".join([f"float {bits}"] * lanes) + ">"

    scale, shift = constant("0x3FEFF7CEE0000000"), constant("0x3F50624DE0000000")
    chains = range(CHAINS)
    return "\n".join(
        [
            f"declare {vector} {fma}({vector}, {vector}, {vector})",
            "define void @peak(i64 %turns, ptr %sums) {",
            "entry:",
            "  br label %loop",
            "loop:",
            "  %turn = phi i64 [0, %entry], [%next, %loop]",
            *(f"  %old{i} = phi {vector} [{constant('1.0')}, %entry], [%new{i}, %loop]" for i in chains),
            *(f"  %new{i} = call {vector} {fma}({vector} %old{i}, {vector} {scale}, {vector} {shift})" for i in chains),
            "  %next = add i64 %turn, 1",
            "  %more = icmp slt i64 %next, %turns",
            "  br i1 %more, label %loop, label %done",
            "done:",
            *(f"  %to{i} = getelementptr {vector}, ptr %sums, i64 {i}" for i in chains),
            *(f"  store volatile {vector} %new{i}, ptr %to{i}, align 4" for i in chains),
            "  ret void",
            "}",
            "",
        ]
    )


def _copy_text(lanes: int) -> str:
    """for turn in range(turns): copy `size` bytes, four vectors at a time."""
    vector, step = f"<{lanes} x float>", 4 * lanes
    parts = range(4)
    return "\n".join(
        [
            "define void @copy(ptr %target, ptr %source, i64 %size, i64 %turns) {",
            "entry:",
            "  br label %again",
            "again:",
            "  %turn = phi i64 [0, %entry], [%turned, %turn_done]",
            "  br label %loop",
            "loop:",
            "  %at = phi i64 [0, %again], [%next, %loop]",
            *(f"  %at{i} = add i64 %at, {i * step}" for i in parts),
            *(f"  %from{i} = getelementptr i8, ptr %source, i64 %at{i}" for i in parts),
            *(f"  %to{i} = getelementptr i8, ptr %target, i64 %at{i}" for i in parts),
            *(f"  %value{i} = load volatile {vector}, ptr %from{i}, align 4" for i in parts),
            *(f"  store volatile {vector} %value{i}, ptr %to{i}, align 4" for i in parts),
            f"  %next = add i64 %at, {4 * step}",
            f"  %end = add i64 %next, {4 * step - 1}",
            "  %more = icmp slt i64 %end, %size",
            "  br i1 %more, label %loop, label %turn_done",
            "turn_done:",
            "  %turned = add i64 %turn, 1",
            "  %another = icmp slt i64 %turned, %turns",
            "  br i1 %another, label %again, label %done",
            "done:",
            "  ret void",
            "}",
            "",
        ]
    )
