"""Mutated files, one after the other in a process of their own, each with little time and memory.

A worker calls :func:`survive`, which prints a line of JSON; a test starts the worker and reads that by :func:`started`.
What was being tried when the process died is in the file that is named on the command line.
"""

import contextlib
import json
import re
import resource
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

SECONDS = 5
"""Of processor time, for one file."""


class TooSlow(BaseException):
    """Raised into whatever takes too long; nobody who catches errors of files may catch it."""


@contextlib.contextmanager
def limited(extra):
    """At most `extra` bytes more of address space."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + extra, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextlib.contextmanager
def small(extra):
    """At most `extra` bytes more of address space, and of pages, which tell what libraries do not."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _pages("VmHWM")
    try:
        with limited(extra):
            yield
    finally:
        grown = _pages("VmHWM") - before
        assert grown <= extra, f"took {grown} bytes, not {extra}"


def _pages(which):
    return 1024 * int(re.search(rf"{which}:\s*(\d+)", Path("/proc/self/status").read_text())[1])


def check_message(message, part):
    """What a user reads: where it happened, and not too much."""
    assert part in message, message
    assert len(message) < 3000, "the message is too long"


def survive(attempt, cases, keep, seed):
    """Hand each of `cases` (bytes) to `attempt`, which returns a word for what happened; print how often it was which.

    What raises something else or takes too long is printed too, and kept beside the file `keep`.
    """

    def too_slow(signum, frame):
        raise TooSlow

    signal.signal(signal.SIGPROF, too_slow)
    seen, bad, slowest = {}, [], 0.0
    for number, data in enumerate(cases):
        keep.write_bytes(data)
        start = time.process_time()
        try:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            verdict = attempt(data)
        except BaseException as error:
            verdict = "bad"
            lines = traceback.format_exc().splitlines()[-12:]
            bad.append({"number": number, "error": f"{type(error).__name__}: {error}"[:300], "where": lines})
            keep.with_name(f"{keep.name}.{seed}.{number}").write_bytes(data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        seconds = time.process_time() - start
        if seconds > SECONDS:
            bad.append({"number": number, "error": f"took {seconds:.1f} s"})
        slowest = max(slowest, seconds)
        seen[verdict] = seen.get(verdict, 0) + 1
    print(json.dumps({"seen": seen, "bad": bad, "slowest": slowest}))


def started(worker, seed, count, folder, *options):
    """Let `worker`, a file beside this one, try `count` files; what it saw, if nothing was bad."""
    kept = folder / "case"
    command = [sys.executable, "-W", "error", Path(__file__).with_name(worker), seed, count, kept, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"died with {done.returncode} of the file {kept}: {done.stderr[-2000:]}"
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["bad"] == []
    assert sum(result["seen"].values()) == count
    return result["seen"]
