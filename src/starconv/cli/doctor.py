"""`starconv doctor`: what starconv finds on this machine, for the user and for reports of faults."""

import importlib
import json
import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from .console import output_console

__all__ = ["register", "report"]

INSTRUCTION_SETS = (
    *("sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "asimd", "asimdhp", "asimddp", "bf16", "sve", "sve2", "sme"),
)
"""Processor features (Linux's names) that decide how fast a convolution can be: vector width, fma, low precision."""
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
    information = _cpuinfo()
    model = information.get("model name") or information.get("cpu model") or platform.processor() or platform.machine()
    flags = set((information.get("flags") or information.get("features") or "").split())
    known = [flag for flag in INSTRUCTION_SETS if flag in flags]
    if hasattr(os, "sched_getaffinity"):
        usable = f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} usable by this process"
    else:
        usable = str(os.cpu_count())
    return {
        "model": model,
        "architecture": platform.machine(),
        "logical cores": usable,
        "features": " ".join(known) or "unknown",
        "caches": ", ".join(_caches()) or "unknown",
    }


def _cpuinfo(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """The first processor in Linux's list; empty elsewhere."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _caches(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> list[str]:
    """The caches of the first core as Linux lists them, such as ``L1 data 32K``."""
    caches = []
    for entry in sorted(folder.glob("index*")):
        try:
            level, kind, size = ((entry / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        caches.append(f"L{level} {'' if kind == 'Unified' else kind.lower() + ' '}{size}")
    return caches


def _engine() -> dict[str, str]:
    """Whether kernels can be compiled here, as the engine says, and where compiled ones are kept."""
    try:
        jit = importlib.import_module("starconv.engine.runtime.jit")
    except ImportError as error:
        return {"available": f"no: {error}; everything runs on NumPy"}
    answer: Any = jit.available()
    # True or an empty reason means yes; False or a text means no, and why.
    reason = answer if isinstance(answer, str) else None
    if answer is True or answer is None or answer == "":
        found = {"available": "yes"}
    else:
        found = {"available": f"no: {reason or 'the engine gives no reason'}; everything runs on NumPy"}
    return found | _cache()


def _cache() -> dict[str, str]:
    try:
        cache = importlib.import_module("starconv.engine.runtime.cache")
        folder = Path(cache.directory())
    except (ImportError, AttributeError):
        return {"cache": "none: compiled kernels are not kept between runs"}
    if not folder.is_dir():
        return {"cache": f"{folder} (not made yet)"}
    sizes = [entry.stat().st_size for entry in folder.rglob("*") if entry.is_file()]
    state = f"{len(sizes)} files, {sum(sizes) / 1e6:.1f} MB" + ("" if os.access(folder, os.W_OK) else ", not writable")
    return {"cache": f"{folder} ({state})"}


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
        hint = (
            f'missing {missing}: {Path(sys.executable).name} -m pip install "starconv[{name_of_extra}]"'
            if missing
            else ""
        )
        lines[name_of_extra] = "; ".join(part for part in (there, hint) if part)
    return lines
