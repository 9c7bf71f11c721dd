"""`starconv doctor`: what starconv finds on this machine, for the user and for reports of faults."""

import json
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from .console import output_console

__all__ = ["register", "report"]

INSTRUCTION_SETS = (
    *(
        "sse4.2",
        "avx",
        "f16c",
        "fma",
        "avx2",
        "avx512f",
        "avx512vnni",
        "avx512bf16",
        "avx512fp16",
        "amx-tile",
        "amx-bf16",
    ),
    *("neon", "fullfp16", "dotprod", "bf16", "i8mm", "sve", "sve2", "sme"),
)
"""Processor features (LLVM's names) that decide how fast a convolution can be: vector width, fma, low precision."""
NOT_OPTIONAL_PARTS = ("test", "check", "all")
"""Extras that are no part of the product: tools of its engineers, and the sum of the others."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("doctor")(doctor)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="As JSON, for a report.")] = False) -> None:
    """Show versions, processor, whether compiled kernels can be used (or why not), and the optional parts."""
    found = report()
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    from rich.markup import escape
    from rich.table import Table

    console = output_console()
    for title, entries in found.items():
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2), title=title, title_justify="left")
        table.title_style = "bold"
        for name, value in entries.items():
            table.add_row(escape(str(name)), escape(str(value)))
        console.print(table)
        console.print()


def report() -> dict[str, dict[str, str]]:
    """Everything that `starconv doctor` shows: sections, each with names and values."""
    return {
        "Versions": _versions(),
        "Processor": _processor(),
        "Compiled kernels": _engine(),
        "Optional parts": _extras(),
    }


def _versions() -> dict[str, str]:
    versions = {
        "starconv": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()}) on {platform.platform()}",
    }
    return versions | {name: _version(name) or "missing" for name in ("numpy", "scipy", "llvmlite")}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> dict[str, str]:
    from ..engine.runtime import jit

    host = jit.host()
    known = [feature for feature in INSTRUCTION_SETS if feature in host.features]
    caches = ("L1 data", host.l1_bytes), ("L2", host.l2_bytes), ("L3", host.l3_bytes)
    return {
        "model": _model_name(),
        "architecture": host.architecture,
        "cores": f"{host.cores} usable by this process, of {os.cpu_count()} logical ones in the machine",
        "features": " ".join(known) or "unknown",
        "caches": ", ".join(f"{name} {size // 1024} KiB" for name, size in caches),
    }


def _model_name(path: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name: on Linux from the kernel's list, elsewhere what Python knows."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^(?:model name|cpu model|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _engine() -> dict[str, str]:
    """Whether kernels can be compiled here, as the engine says, and where compiled ones are kept."""
    from ..engine import planner
    from ..engine.runtime import cache, jit

    reason = jit.available()
    state = cache.status()
    kept = f"{state.files} objects, {state.bytes / 1e6:.1f} MB" if state.reason is None else f"not used: {state.reason}"
    return {
        "available": "yes" if reason is None else f"no: {reason}; everything runs on NumPy",
        "cache": f"{state.directory} ({kept})" if state.directory else kept,
        "measured": f"{len(planner.wisdom())} problems (starconv tune)",
    }


def _extras() -> dict[str, str]:
    """The extras of this installation's own metadata, each with the versions of its packages or how to get them."""
    extras: dict[str, dict[str, str | None]] = {}
    for requirement in metadata.requires("starconv") or []:
        package = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"""extra\s*==\s*['"]([\w.-]+)['"]""", requirement)
        if package and extra and extra[1] not in NOT_OPTIONAL_PARTS and package[0] != "starconv":
            extras.setdefault(extra[1], {})[package[0]] = _version(package[0])
    lines = {}
    for name_of_extra, packages in extras.items():
        there = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
        missing = ", ".join(name for name, version in packages.items() if not version)
        hint = f'missing {missing}: pip install "starconv[{name_of_extra}]"' if missing else ""
        lines[name_of_extra] = "; ".join(part for part in (there, hint) if part)
    return lines
