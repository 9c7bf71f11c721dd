"""IR text in, callable machine code out: the only file that touches LLVM's code generator.

A module is compiled once per text, feature string and version, however many threads ask, and its object
is remembered on disk (`cache`). llvmlite is imported on first use, so importing this file costs nothing.

    module = compile_module(text, features=host().feature_string)
    function = ctypes.CFUNCTYPE(...)(module.address("name"))     # valid as long as `module` is referenced
"""

import ctypes
import functools
import hashlib
import itertools
import os
import platform
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from starconv.engine.runtime import cache, image, machine
from starconv.errors import StarconvError

__all__ = ["CompileError", "Host", "Module", "assembly", "available", "compile_module", "compile_object", "host"]

# Code generation at full optimisation, but no IR passes before it: the emitters already write the loops
# they want, and the pipeline costs 30 ms without changing such kernels.
# Position-independent code with the small code model reads constants relative to the program counter;
# that is safe because the linker puts all sections of an object into one block of memory.
_CODE_OPTIONS = {"opt": 3, "reloc": "pic", "codemodel": "small"}

# Kernels choose their vectors themselves and state them through the feature string. The name of the host's
# CPU would add tuning that splits <16 x float> in two on some, and under a hypervisor it can be wrong.
_GENERIC_CPU = {"x86_64": "x86-64", "i386": "pentium4"}

# The functions a text defines for others to see, with and without quotes around the name.
_DEFINED = re.compile(r'^define\b(?![^@\n]*\b(?:internal|private)\b)[^@\n]*@(?:"([^"]+)"|([-\w$.]+))', re.MULTILINE)

_PROBE = """
define i64 @probe(i64 %x) nounwind {
  %y = add i64 %x, 42
  ret i64 %y
}
"""


class CompileError(StarconvError):
    """The IR does not compile, a symbol is missing, or this host does not let compiled code run."""


@dataclass(frozen=True)
class Host:
    """The processor as an emitter needs to know it. Caches in bytes, as seen by one core."""

    triple: str
    architecture: str  # as LLVM spells it: "x86_64", "aarch64", ...
    features: frozenset[str]  # only those that are present: "avx2", "fma", ...
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    cores: int

    @functools.cached_property
    def feature_string(self) -> str:
        """All features as LLVM wants them, in a fixed order: ``"+avx,+avx2,..."``."""
        return ",".join(f"+{name}" for name in sorted(self.features))


@functools.cache
def host() -> Host:
    """What this process runs on. Without llvmlite the features are empty, and the rest still holds."""
    level1, level2, level3 = machine.cache_sizes()
    try:
        triple, *names = _processor()
        features = frozenset(names)
    except Exception:  # available() is where the reason is told
        triple, features = f"{platform.machine()}-unknown-{sys.platform}", frozenset()
    if sys.platform == "win32" and not triple.endswith("-elf"):
        triple += "-elf"  # the in-process linker's ELF side is the complete one
    return Host(triple, _architecture(triple), features, level1, level2, level3, machine.usable_cores())


def _processor() -> list[str]:
    """The triple and the features, as LLVM tells them: once for each kind of processor, as importing it takes 30 ms."""
    known = machine.processor()
    key = cache.key("processor", known or "", platform.machine(), _version())
    found = None if known is None else cache.load(key)
    if found is not None:
        return found.decode().split()
    llvm = _llvm()
    with _lock:
        words = [
            llvm.get_process_triple(),
            *sorted(name for name, is_there in llvm.get_host_cpu_features().items() if is_there),
        ]
    if known is not None:
        cache.store(key, " ".join(words).encode())
    return words


@functools.cache
def available() -> str | None:
    """None where compiled kernels work, else the reason in words. Found out once, by compiling and calling one."""
    try:
        module = compile_module(_PROBE, features=host().feature_string)
        answer = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(module.address("probe"))(-2)
    except ImportError as error:
        return f"llvmlite cannot be imported: {error}"
    except Exception as error:
        return f"compiled code cannot run here: {error}"
    return None if answer == 40 else f"compiled code computes -2 + 42 = {answer}"


@dataclass(eq=False)
class Module:
    """Machine code in memory. It is unmapped when the last reference goes: keep one as long as code may run."""

    _code: Any
    _addresses: dict[str, int]

    def address(self, name: str) -> int:
        """Where the function `name` is; a name that is not defined is a :class:`CompileError`, never a zero."""
        found = self._addresses.get(name, 0)
        if not found:
            raise CompileError(f"compiled module has no function {name!r}, only {sorted(self._addresses)}")
        return found


class Named(Protocol):
    """IR that has a name which decides its text, as `emit.source` makes it, and the functions that it defines."""

    @property
    def name(self) -> str: ...
    @property
    def functions(self) -> tuple[str, ...]: ...
    @property
    def text(self) -> str: ...


def compile_module(ir: str | Named, *, features: str, triple: str | None = None) -> Module:
    """Compile (or find) IR for this process: a text, or one that is only written where it is not found by its name.

    Errors in the text are a :class:`CompileError`.
    """
    triple = host().triple if triple is None else triple
    sources = None if isinstance(ir, str) else _sources()
    if sources is None or isinstance(ir, str):
        text = ir if isinstance(ir, str) else ir.text
        key = cache.key(text, features, triple, _version())
        return _found_or_compiled(key, lambda: text, _functions_of(text), features, triple)
    key = cache.key("named", sources, ir.name, features, triple, _version())
    return _found_or_compiled(key, lambda: ir.text, list(ir.functions), features, triple)


def _functions_of(text: str) -> list[str]:
    return [quoted or plain for quoted, plain in _DEFINED.findall(text)]


def _found_or_compiled(key: bytes, text: Callable[[], str], names: list[str], features: str, triple: str) -> Module:
    with _lock:
        module = _modules.get(key)
        if module is not None:
            return module
        code = cache.load(key)
        if code is not None:
            try:
                module = _link(code, names)
            except CompileError:
                code = None  # an object that LLVM of the same version does not take: make it anew
        if module is None:
            code = compile_object(text(), triple, features)
            if triple == host().triple:
                code = image.image_of(code, names) or code
            module = _link(code, names)
            cache.store(key, code)
        _modules[key] = module
        return module


def compile_object(ir_text: str, triple: str, features: str) -> bytes:
    """The object file of `ir_text` for any target that LLVM knows, this machine's or another."""
    with _lock:
        target = _target_machine(triple, features)
        return bytes(target.emit_object(_parse(ir_text, triple, target)))


def assembly(ir_text: str, triple: str, features: str) -> str:
    """The same code as :func:`compile_object` makes, as text to read, count instructions in, and test."""
    with _lock:
        target = _target_machine(triple, features)
        return str(target.emit_assembly(_parse(ir_text, triple, target)))


# One lock for everything below: LLVM is entered by one thread at a time anyway, it makes "compile once per
# key" a matter of looking twice, and a fork waits for it, so no child inherits a compiler in mid-work.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)

_BEGAN = time.time_ns()


@functools.cache
def _sources() -> str | None:
    """The digest of all source files of the engine, by which kernels are found without writing their text.

    None where they cannot be read, or one was changed since this process began: then they may not say what it runs.
    """
    try:
        folder = Path(__file__).resolve().parent.parent
        files = sorted(
            os.path.join(where, name) for where, _, names in os.walk(folder) for name in names if name.endswith(".py")
        )
        states = [os.stat(file) for file in files]
        # An installer may keep the time of a file's contents; when it was put there shows in its status.
        if not files or any(max(each.st_mtime_ns, each.st_ctime_ns) >= _BEGAN for each in states):
            return None
        # Reading them takes 3 ms. Files that are where they were, as they were since, hold what they held.
        seen = [(each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in states]
        key = cache.key("sources", *files, repr(seen))
        known = cache.load(key)
        if known is None:
            known = hashlib.sha256(b"\0".join(Path(file).read_bytes() for file in files)).hexdigest().encode()
            cache.store(key, known)
        return known.decode()
    except OSError:
        return None


_modules: weakref.WeakValueDictionary[bytes, Module] = weakref.WeakValueDictionary()
_library_numbers = itertools.count(1)


@functools.cache
def _llvm() -> Any:
    import llvmlite.binding as llvm

    with _lock:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()  # for inline assembly
    return llvm


@functools.cache
def _all_targets() -> None:
    _llvm().initialize_all_targets()
    _llvm().initialize_all_asmprinters()


@functools.cache
def _version() -> str:
    """Everything outside the text that decides the machine code; LLVM by its file, as it is not to be loaded yet."""
    import llvmlite

    files = sorted(Path(llvmlite.__file__).parent.glob("binding/*llvmlite.*"))
    library = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return f"llvmlite {llvmlite.__version__}, {library or _llvm().llvm_version_info}, {_CODE_OPTIONS}, {_GENERIC_CPU}"


@functools.cache
def _target_machine(triple: str, features: str) -> Any:
    llvm = _llvm()
    if triple != host().triple:
        _all_targets()
    architecture = _architecture(triple)
    try:
        target = llvm.Target.from_triple(triple)
    except RuntimeError as error:
        raise CompileError(f"no code generator for {triple!r}: {error}") from None
    return target.create_target_machine(
        cpu=_GENERIC_CPU.get(architecture, "generic"), features=features, jit=True, **_CODE_OPTIONS
    )


@functools.cache
def _linker() -> Any:
    """LLVM's in-process linker. Unlike the older MCJIT it reports an unknown symbol instead of aborting."""
    llvm = _llvm()
    llvm.check_jit_execution()
    return llvm.create_lljit_compiler(_target_machine(host().triple, ""), use_jit_link=True)


def _parse(ir_text: str, triple: str, target: Any) -> Any:
    llvm = _llvm()
    try:
        # A context of its own: the names of struct types in one text do not meet those of another.
        module = llvm.parse_assembly(ir_text, llvm.create_context())
        module.triple = triple
        module.data_layout = str(target.target_data)
        module.verify()
    except RuntimeError as error:
        raise CompileError(f"LLVM rejects the IR: {error}") from None
    return module


def _link(code: bytes, names: list[str]) -> Module:
    try:
        loaded = image.load(code, names)
    except OSError as error:
        raise CompileError(f"cannot make compiled code executable: {error}") from None
    module = _linked(code, names) if loaded is None else Module(loaded, loaded.addresses)
    # Not __del__: while that runs, weak references still lead to the module, and a thread that looks it up in
    # `_modules` would be handed code that is about to go. While the process exits nothing is unmapped, because other
    # threads may still be inside.
    weakref.finalize(module, _unmap, module._code).atexit = False
    return module


def _linked(code: bytes, names: list[str]) -> Module:
    """An object that is no image, linked by LLVM."""
    builder = _llvm().JITLibraryBuilder().add_object_img(code).add_current_process()
    for name in names:
        builder.export_symbol(name)
    try:
        tracker = builder.link(_linker(), f"starconv {next(_library_numbers)}")
    except RuntimeError as error:
        raise CompileError(f"cannot link compiled code: {error}") from None
    return Module(tracker, {name: int(tracker[name]) for name in names})


def _unmap(code: Any) -> None:
    with _lock:
        code.close()


def _architecture(triple: str) -> str:
    architecture = triple.partition("-")[0].lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(architecture, architecture)
