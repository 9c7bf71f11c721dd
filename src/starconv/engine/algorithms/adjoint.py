"""Input gradients and transposed convolutions, as forward convolutions over the output's gradient: no kernel here.

Maths: with stride s an input position meets only the taps of its *phase* (its number modulo s), and the positions of
one phase are a dense convolution with stride 1 over O, of those taps in reverse with channels and kernels exchanged
(see `geometry.adjoint_phases`). Over d axes that makes up to s^d convolutions, which together do exactly the
multiply-adds of the forward layer; none of them multiplies by the zeros that spreading O out would insert.

Phases that read the same of O in the same way (all of a 2x2 kernel with stride 2, as in U-Nets) are one convolution
with so many times the kernels: a *bundle*.

How it runs: it states these convolutions as its *parts*. The planner, which chooses, plans each like any other problem
and hands the solutions back; so this file knows of no other algorithm, and an input gradient gets Winograd, few
channels or whatever else fits best without anyone telling it. Then the phases, computed for as many pictures as fit
into the last cache, are woven into the result (see `weave`), together with the phases that no tap meets: those are the
bias. Stride 1 is one phase, written in place.

Limits: constant borders (the gradients of repeated pixels add up), float32 and float64.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...geometry import Axis, Phase, adjoint_phases
from ...problem import Problem
from ..descriptor import address_of
from ..emit.target import Target
from ..runtime import memory
from ..runtime.jobs import Job
from ..runtime.memory import ALIGNMENT
from .finish import finish_with_numpy
from .panels import copied
from .refusals import refuses_many_phases, refuses_shown_padding, refuses_unless
from .weave import weave

NAME = "adjoint"

Array = NDArray[Any]

MOST_BYTES = 16 << 20
"""Of phases that wait to be woven, at most."""


def refuses(problem: Problem, target: Target | None) -> str | None:
    """Why not: only input gradients in floating point, where padding is constant."""
    return (
        refuses_unless("input_grad", problem, target) or refuses_shown_padding(problem) or refuses_many_phases(problem)
    )


def parts(problem: Problem, target: Target | None) -> tuple[Problem, ...]:
    """The convolutions of the phases that have taps, for the pictures of one turn."""
    assert target is not None
    pictures, phases = _pictures(problem, target), _all_phases(problem)
    return tuple(_part(problem, phases[bundle[0]], len(bundle), pictures) for bundle in _bundles(problem))


def cost(problem: Problem, target: Target | None, parts: Sequence[float]) -> float:
    """Seconds: the parts', once per turn, and weaving at 10 GB/s."""
    assert target is not None
    turns = -(-problem.batch // _pictures(problem, target))
    if not _strided(problem):
        return turns * (sum(parts) + 5e-6)
    # Measured: what the parts write is no longer near when it is woven, and nor is what the next one reads.
    return 1.6 * (turns * (sum(parts) + 5e-6) + math.prod(problem.input_shape) * problem.itemsize / 10e9)


def workspace(problem: Problem, target: Target | None, parts: Sequence[int]) -> int:
    """Bytes: the parts', and the phases of one turn."""
    assert target is not None
    return sum(parts) + (_picture_bytes(problem) * _pictures(problem, target) if _strided(problem) else 0)


def error_bound(problem: Problem, parts: Sequence[float]) -> float:
    """Every pixel of the result is one of one part."""
    return max(parts, default=0.0)


def build(problem: Problem, target: Target | None, parts: Sequence[Any]) -> "Adjoint":
    """The solution of `problem`, from those of its parts."""
    assert target is not None
    return Adjoint(problem, target, parts)


class Adjoint:
    """Runs one input gradient; see the module's text."""

    def __init__(self, problem: Problem, target: Target, parts: Sequence[Any]) -> None:
        self.problem, self.target = problem, target
        self.pictures = _pictures(problem, target)
        self.phases = _all_phases(problem)
        self.bundles = _bundles(problem)
        self.solutions = parts
        self.counts = tuple(min(axis.stride, axis.input) for axis in problem.axes)

    def prepare(self, second: Array, bias: Array | None, fill: float, once: bool = False) -> tuple[list[Any], Array]:
        """The kernels of every phase in its algorithm's form, and what a pixel is that no tap meets."""
        problem, turned = self.problem, self._turned(second)
        prepared = []
        for bundle, solution in zip(self.bundles, self.solutions, strict=True):
            each = [turned[:, :, *(_reversed(phase.taps) for phase in self.phases[number])] for number in bundle]
            prepared.append(
                solution.prepare(
                    self._bundled(each), bias if bias is None else self._bundled([bias] * len(bundle)), 0.0, once
                )
            )
        constants = np.zeros(problem.in_channels) if bias is None else bias
        constants = constants.astype(problem.dtype)
        return prepared, constants if _adds_later(problem) else finish_with_numpy(problem, constants, None)

    @property
    def prepare_bytes(self) -> int:
        """Bytes that `prepare_jobs` needs: the parts', and for the kernels of a bundle side by side."""
        bytes_of_parts = sum(getattr(solution, "prepare_bytes", 0) + ALIGNMENT for solution in self.solutions)
        return (
            bytes_of_parts
            + len(self.bundles) * ALIGNMENT
            + math.prod(self.problem.weight_shape) * (self.problem.itemsize)
        )

    def prepare_jobs(self, second: Array, bias: Array | None, room: Array) -> tuple[Any, list[Job]] | None:
        """The same, made in `room` by jobs; None where the weights would have to be copied otherwise."""
        problem, turned, prepared = self.problem, self._turned(second), []
        several = any(len(bundle) > 1 for bundle in self.bundles)
        missing = len(self.phases) > sum(map(len, self.bundles))
        if not np.may_share_memory(turned, second) or (several and problem.groups > 1):
            return None
        if bias is not None and (several or missing):
            return None
        jobs: list[Job] = []
        for bundle, solution in zip(self.bundles, self.solutions, strict=True):
            each = [turned[:, :, *(_reversed(phase.taps) for phase in self.phases[number])] for number in bundle]
            kernels = each[0]
            if len(bundle) > 1:
                kernels, room = _taken(room, (len(bundle) * problem.in_channels, *kernels.shape[1:]), problem.dtype)
                for place, part in enumerate(each):
                    own = kernels[place * problem.in_channels :][: problem.in_channels]
                    written = copied(part, own, own)
                    if written is None:
                        return None
                    jobs += written[1]
            write = getattr(solution, "prepare_jobs", None)
            found = None if write is None else write(kernels, bias, room)
            if found is None:
                return None
            room = room[-(-solution.prepare_bytes // ALIGNMENT) * ALIGNMENT :]
            prepared.append(found[0])
            jobs += found[1]
        constants = np.zeros(problem.in_channels, problem.dtype)
        return (prepared, finish_with_numpy(problem, constants, None)), jobs

    @property
    def _in_place(self) -> bool:
        """Whether there is one phase, which is computed where the result belongs."""
        return len(self.phases) == len(self.bundles) == 1

    def _turned(self, second: Array) -> Array:
        """(C, K / groups, ...) of (K, C / groups, ...)."""
        problem = self.problem
        kernels, channels = problem.out_channels // problem.groups, problem.in_channels // problem.groups
        turned = second.reshape(problem.groups, kernels, channels, *second.shape[2:]).swapaxes(1, 2)
        return turned.reshape(problem.in_channels, kernels, *second.shape[2:])

    def _bundled(self, arrays: list[Array]) -> Array:
        """(C, ...) of every phase of a bundle as one: those of a group side by side."""
        if len(arrays) == 1:
            return arrays[0]
        groups, sizes = self.problem.groups, arrays[0].shape[1:]
        return np.stack([array.reshape(groups, -1, *sizes) for array in arrays], axis=1).reshape(-1, *sizes)

    def run(self, first: Array, prepared: tuple[list[Any], Array], out: Array, residual: Array | None = None) -> None:
        """Compute into `out`: in place where there is one phase, else through the phases of some pictures at a time."""
        kernels, constants = prepared
        if self._in_place:
            added = () if residual is None else (residual,)
            self.solutions[0].run(_read(first, self.phases[0]), kernels[0], out, *added)
            return
        if residual is not None:
            sums = out if not np.may_share_memory(out, residual) else np.empty_like(out)
            self._run_phases(first, kernels, constants, sums)
            out[...] = finish_with_numpy(self.problem, sums, residual)
            return
        self._run_phases(first, kernels, constants, out)

    def in_place(self, first: Array, out: Array) -> tuple[bool, bool]:
        """Whether it reads the one and writes the other where they lie, not through a copy."""
        asked = getattr(self.solutions[0], "in_place", None) if self._in_place else None
        return (True, True) if asked is None else asked(_read(first, self.phases[0]), out)

    def jobs(
        self, first: Array, prepared: tuple[list[Any], Array], out: Array, residual: Array | None = None
    ) -> list[Job] | None:
        """What `run` does with these very arrays, written down; None where a part would have to copy one of them.

        Phases wait in the scratch memory, behind what the parts need of it.
        """
        kernels, constants = prepared
        if self._in_place:
            written = getattr(self.solutions[0], "jobs", None)
            return None if written is None else written(_read(first, self.phases[0]), kernels[0], out, residual)
        if residual is not None:
            return None
        # It is never touched: addresses in it become places in the scratch memory.
        room = np.empty(self._room_bytes, np.uint8)
        parts: list[list[Job]] = []
        for turn in self._turns():
            jobs, sources = [], self._sources(constants)
            for number, results in self._results(room, sources):
                written = getattr(self.solutions[number], "jobs", _none)(
                    _read(first[turn], self.phases[self.bundles[number][0]]), kernels[number], results
                )
                if written is None:
                    return None
                jobs += written
            woven = self._woven(sources, out[turn], room)
            if woven is None:
                return None
            parts.append([*jobs, woven])
        own = max(job.scratch for jobs in parts for job in jobs)
        start = -(-own // ALIGNMENT) * ALIGNMENT
        return [_moved(job, room, start) for jobs in parts for job in jobs]

    def _run_phases(self, first: Array, kernels: list[Any], constants: Array, out: Array) -> None:
        """Compute the phases of some pictures at a time, and weave them into `out`."""
        with memory.scratch(self._room_bytes) as scratch:
            for turn in self._turns():
                sources = self._sources(constants)
                for number, results in self._results(scratch.array, sources):
                    phases = self.phases[self.bundles[number][0]]
                    self.solutions[number].run(_read(first[turn], phases), kernels[number], results)
                self._put_together(sources, out[turn])

    @property
    def _room_bytes(self) -> int:
        """Of the phases of one turn."""
        return -(-_picture_bytes(self.problem) * self.pictures // ALIGNMENT) * ALIGNMENT + ALIGNMENT * len(self.phases)

    def _turns(self) -> Iterator[slice]:
        """The pictures of every turn. Parts take a fixed number: the last turn may compute some pictures again."""
        for start in range(0, self.problem.batch, self.pictures):
            first = min(start, self.problem.batch - self.pictures)
            yield slice(first, first + self.pictures)

    def _sources(self, constants: Array) -> list[Array]:
        """What every phase is as long as no part has computed it."""
        return [self._constant(constants, self._shape(phases)) for phases in self.phases]

    def _results(self, room: Array, sources: list[Array]) -> Iterator[tuple[int, Array]]:
        """Per bundle its number and the array in `room` for its result, of which `sources` then has every phase's."""
        for number, bundle in enumerate(self.bundles):
            pictures, channels, *sizes = self._shape(self.phases[bundle[0]])
            shape = (pictures, channels * len(bundle), *sizes)
            size = math.prod(shape) * self.problem.itemsize
            results = self._array(room[:size], shape)
            room = room[-(-size // ALIGNMENT) * ALIGNMENT :]
            for place, phase in enumerate(bundle):
                own = slice(place * channels, (place + 1) * channels)
                sources[phase] = results[:, own if self.problem.groups == 1 else slice(place, None, len(bundle))]
            yield number, results

    def _shape(self, phases: tuple[Phase, ...]) -> tuple[int, ...]:
        problem = self.problem
        pairs = zip(phases, problem.axes, strict=True)
        sizes = (len(range(phase.first, axis.input, phase.step)) for phase, axis in pairs)
        return (self.pictures, problem.in_channels, *sizes)

    def _array(self, room: Array, shape: tuple[int, ...]) -> Array:
        """An array (N, C, ...) in `room`, that lies there as the problem says."""
        flat: Array = room.view(self.problem.dtype)
        if self.problem.channels_last:
            return np.moveaxis(flat.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
        return flat.reshape(shape)

    def _constant(self, constants: Array, shape: tuple[int, ...]) -> Array:
        """One value per channel everywhere; one row of it in memory, for the vectors of `weave`."""
        if self.problem.channels_last:
            return np.broadcast_to(constants.reshape(-1, *[1] * (len(shape) - 2)), shape)
        row = np.repeat(constants, shape[-1]).reshape(shape[1], *[1] * (len(shape) - 3), shape[-1])
        return np.broadcast_to(row, shape)

    def _woven(self, sources: list[Array], out: Array, room: Array | None = None) -> Job | None:
        """The job that weaves `sources` into `out`, if it can."""
        missing = 3 - self.problem.spatial
        counts = (1,) * missing + self.counts
        new = (slice(None), slice(None), *(None,) * missing)
        seen = [source[new] for source in sources]
        last = self.problem.channels_last
        return weave(seen, counts, out[new], self.target, last=last, room=room)  # type: ignore[arg-type]

    def _put_together(self, sources: list[Array], out: Array) -> None:
        job = self._woven(sources, out)
        if job is not None:
            job.run()
            return
        for phases, source in zip(self.phases, sources, strict=True):
            out[:, :, *(slice(phase.first, None, phase.step) for phase in phases)] = source


def _none(first: Array, prepared: Any, out: Array) -> None:
    """The jobs of a solution that writes none."""


def _taken(room: Array, shape: tuple[int, ...], dtype: str) -> tuple[Array, Array]:
    """An array at the beginning of `room`, and what is left of that."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return room[:size].view(dtype).reshape(shape), room[-(-size // ALIGNMENT) * ALIGNMENT :]


def _moved(job: Job, room: Array, start: int) -> Job:
    """`job` with what it has in `room` at the same places of the scratch memory, from its byte `start` on."""
    first = address_of(room)
    inside = {slot: job.block[slot] - first for slot in job.arrays if first <= job.block[slot] < first + room.nbytes}
    places = (*job.scratch_places, *((slot, start + offset) for slot, offset in inside.items()))
    arrays = tuple(slot for slot in job.arrays if slot not in inside)
    return job._replace(scratch=start + room.nbytes, scratch_places=places, arrays=arrays)


def _all_phases(problem: Problem) -> list[tuple[Phase, ...]]:
    """Every combination of the axes' phases."""
    return list(product(*(adjoint_phases(axis) for axis in problem.axes)))


@lru_cache(maxsize=1024)
def _bundles(problem: Problem) -> tuple[tuple[int, ...], ...]:
    """The phases that have taps, by number; together those that are one convolution.

    Only where the channels of one phase lie at one distance in the result: in one group, or with one channel each.
    """
    alone = problem.groups > 1 and (problem.channels_last or problem.in_channels > problem.groups)
    bundles: dict[object, list[int]] = {}
    for number, phases in enumerate(_all_phases(problem)):
        if _has_taps(phases):
            alike = tuple((phase.axis, phase.skipped) for phase in phases)
            bundles.setdefault(number if alone else alike, []).append(number)
    return tuple(map(tuple, bundles.values()))


def _has_taps(phases: tuple[Phase, ...]) -> bool:
    return all(phase.axis is not None for phase in phases)


def _strided(problem: Problem) -> bool:
    return len(_all_phases(problem)) > 1


def _part(problem: Problem, phases: tuple[Phase, ...], together: int, pictures: int) -> Problem:
    """The convolution of a phase, or of so many together."""
    axes: tuple[Axis, ...] = tuple(phase.axis for phase in phases if phase.axis is not None)
    return Problem(
        "conv",
        pictures,
        problem.out_channels,
        problem.in_channels * together,
        axes,
        problem.groups,
        dtype=problem.dtype,
        channels_last=problem.channels_last,
        bias=problem.bias,
        residual=problem.residual and not _adds_later(problem),
        activation="none" if _adds_later(problem) else problem.activation,
        precision=problem.precision,
    )


def _adds_later(problem: Problem) -> bool:
    """Whether a residual is added once the phases are woven."""
    return problem.residual and _strided(problem)


def _picture_bytes(problem: Problem) -> int:
    return math.prod(problem.input_shape[1:]) * problem.itemsize


def _pictures(problem: Problem, target: Target) -> int:
    """Pictures per turn: all with one phase; else as many as fill half of the last cache, in turns of equal size."""
    if not _strided(problem):
        return problem.batch
    fit = max(min(MOST_BYTES, target.l3_bytes // 2) // _picture_bytes(problem), 1)
    return -(-problem.batch // -(-problem.batch // fit))


def _reversed(taps: range) -> slice:
    """The slice that takes `taps` from last to first."""
    if not taps:
        return slice(0, 0)
    stop = taps[0] - taps.step
    return slice(taps[-1], stop if stop >= 0 else None, -taps.step)


def _read(gradient: Array, phases: tuple[Phase, ...]) -> Array:
    """The part of the output's gradient that a phase's convolution reads."""
    inner = (slice(phase.skipped, phase.skipped + phase.axis.input) for phase in phases if phase.axis is not None)
    return gradient[:, :, *inner]
