"""Running a few lines of Python in a fresh process that prints numbers."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def numbers(code: str, *arguments: str, environment: dict[str, str] | None = None) -> list[float]:
    """The numbers that `code` prints, run by a new interpreter with `arguments` in sys.argv.

    Raises:
        RuntimeError: the process failed; with its last line of error output.
    """
    # Modules are compiled when a package is installed; here, when they are first imported.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**inherited, **(environment or {})},
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(lines[-1])
    return [float(word) for word in done.stdout.split()]


def peak_bytes(*, reset: bool = False) -> int:
    """The largest memory that this process has had at one time, or since it was `reset`, where Linux can do that.

    Not what `getrusage` says there: a child begins with the peak of the process that started it.
    """
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
