"""Measured choices on disk: which algorithm was fastest for which problem, in a file one can read.

    {
      "starconv wisdom": 1,
      "signature": {"version": "0.1.0", "processor": "AuthenticAMD 25 17 1 AMD EPYC", "cores": 2, ...},
      "problems": {
        "conv2d x=1x64x56x56 w=64x64x3x3 padding=1":
          {"algorithm": "winograd", "seconds": {"direct": 0.00153, "winograd": 0.00061}}
      }
    }

It lies beside the compiled objects (see `runtime.cache`), in one file per signature: what was measured by another
version, on another processor or with other algorithms to choose from says nothing here, and is not looked at. A file
that is damaged, foreign or made up counts as far as its entries make sense, and no further: names of algorithms are
looked up, nothing is executed, and a planner asks every algorithm whether it takes the problem in any case.

Two processes that learn at the same time both keep what they learnt: a file is read again, under a lock, before it is
replaced, in one step.
"""

import contextlib
import hashlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .runtime import cache, jit, machine

__all__ = ["LIMIT_BYTES", "MOST_ENTRIES", "Entry", "Wisdom", "signature_of"]

FORMAT = 1
LIMIT_BYTES = 4 << 20
"""A file larger than this is none of ours."""
MOST_ENTRIES = 8192
"""Problems in a file, some 250 bytes each. Beyond, those that were measured first make room."""
MOST_LETTERS = 400
"""Of a problem's string; the longest that mean something have some 200."""
MOST_FILES = 8
"""Signatures that are kept; upgrades leave files behind that nobody will read again."""
LOCK_SECONDS = 2.0
"""How long to wait for another process that writes. Then go on: at worst an entry is measured once more."""

Signature = dict[str, str | int]


class Entry(NamedTuple):
    """What was measured for one problem: the algorithm to take, and (name, seconds) of every candidate timed."""

    algorithm: str
    seconds: tuple[tuple[str, float], ...]


def signature_of(algorithms: Sequence[str]) -> Signature:
    """All that a measurement depends on: this version, this processor, its cores, and what there is to choose from.

    The processor's model is there because two models with the same features and caches may differ in what is fastest.
    The cores are those that the process may use. ``set_num_threads`` does not come into it, so that results do not
    depend on the number of threads.
    """
    from .. import __version__

    host = jit.host()
    return {
        "version": __version__,
        "architecture": host.architecture,
        "processor": machine.processor_model(),
        "features": host.feature_string,
        "caches": f"{host.l1_bytes} {host.l2_bytes} {host.l3_bytes}",
        "cores": host.cores,
        "algorithms": " ".join(algorithms),
    }


class Wisdom:
    """The entries of one signature: read once, then added to in memory and on disk."""

    def __init__(self, signature: Signature, entries: dict[str, Entry] | None = None, *, keep: bool = True) -> None:
        """With these `entries`; nothing goes to disk unless `keep`."""
        self.signature, self.keep = signature, keep
        self._entries = dict(entries or {})

    @classmethod
    def load(cls, signature: Signature) -> "Wisdom":
        """What the disk holds under `signature`; empty where there is nothing that can be trusted."""
        path, _ = cls(signature).path()
        return cls(signature, {} if path is None else _read(path, signature))

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, problem: str) -> Entry | None:
        """What was measured for a problem's string."""
        return self._entries.get(problem)

    def path(self) -> tuple[Path | None, str | None]:
        """The file, or None and the reason why nothing is kept on disk."""
        directory, reason = cache.usable_directory()
        if directory is None:
            return None, reason
        digest = hashlib.sha256(json.dumps(self.signature, sort_keys=True).encode()).hexdigest()
        return directory / f"wisdom-{digest[:16]}.json", None

    def record(self, problem: str, entry: Entry) -> None:
        """Remember `entry`, and keep it on disk if that is possible; what others wrote meanwhile stays there.

        Others' entries are not taken over, so that the choices of a running process change only by its own doing.
        """
        with _lock:
            self._entries = _merged(self._entries, problem, entry)
        path, _ = self.path()
        if path is None or not self.keep:
            return
        # Nothing that goes wrong with a disk may come between a user and a plan.
        with contextlib.suppress(OSError), _locked(path.with_name("wisdom.lock")):
            entries = _merged(_read(path, self.signature), problem, entry)
            cache.write_private(path, _text(self.signature, entries).encode())
            _shrink(path)


def _merged(entries: dict[str, Entry], problem: str, entry: Entry) -> dict[str, Entry]:
    """`entries` and the new one, which comes last; a new dict, because others may be reading the old one."""
    kept = {name: known for name, known in entries.items() if name != problem}
    for name in list(kept)[: max(0, len(kept) + 1 - MOST_ENTRIES)]:
        del kept[name]
    return kept | {problem: entry}


def _text(signature: Signature, entries: dict[str, Entry]) -> str:
    """The file: JSON with a line per problem, to be read, searched and compared."""
    problems = [
        f"    {json.dumps(problem)}: {json.dumps({'algorithm': entry.algorithm, 'seconds': dict(entry.seconds)})}"
        for problem, entry in entries.items()
    ]
    signed = json.dumps(signature, indent=4).replace("\n}", "\n  }")
    listed = "{\n" + ",\n".join(problems) + "\n  }"
    return f'{{\n  "starconv wisdom": {FORMAT},\n  "signature": {signed},\n  "problems": {listed}\n}}\n'


def _read(path: Path, signature: Signature) -> dict[str, Entry]:
    """The entries of a file that make sense; none if the file is not ours, not signed so, or no such file at all."""
    try:
        data = cache.read_private(path, LIMIT_BYTES)
        found = None if data is None else json.loads(data)
    except (OSError, ValueError, RecursionError):  # ValueError: no JSON, no UTF-8, an integer of 5,000 digits
        return {}
    if not isinstance(found, dict) or found.get("starconv wisdom") != FORMAT or found.get("signature") != signature:
        return {}
    problems = found.get("problems")
    if not isinstance(problems, dict):
        return {}
    names = frozenset(str(signature["algorithms"]).split())
    entries = {}
    for problem, value in list(problems.items())[-MOST_ENTRIES:]:
        entry = _entry(value, names) if len(problem) <= MOST_LETTERS else None
        if entry is not None:
            entries[problem] = entry
    return entries


def _entry(value: object, names: frozenset[str]) -> Entry | None:
    """An entry, if `value` is one: a known algorithm, and positive seconds for it and other known ones."""
    if not isinstance(value, dict) or not isinstance(value.get("seconds"), dict):
        return None
    algorithm, seconds = value.get("algorithm"), value["seconds"]
    if not isinstance(algorithm, str) or algorithm not in seconds or not seconds.keys() <= names:
        return None
    for number in seconds.values():
        if type(number) is not float or not math.isfinite(number) or number <= 0:
            return None
    return Entry(algorithm, tuple(seconds.items()))


def _shrink(latest: Path) -> None:
    """Remove the files of signatures that were written longest ago."""
    files = [path for path in latest.parent.glob("wisdom-*.json") if path != latest]
    files.sort(key=lambda path: path.lstat().st_mtime_ns, reverse=True)
    for path in files[MOST_FILES - 1 :]:
        path.unlink(missing_ok=True)


# Within a process. A fork while another thread writes would leave the child with a lock that nobody opens.
_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone among threads, and among processes if the lock is to be had in time. A process that dies lets go of it."""
    with _lock:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        handle = os.open(path, flags, 0o600)
        try:
            end = time.monotonic() + LOCK_SECONDS
            while not _try_lock(handle) and time.monotonic() < end:
                time.sleep(0.01)
            yield
        finally:
            os.close(handle)


def _try_lock(handle: int) -> bool:
    """Whether the lock on an open file is ours now; closing the file gives it back."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
