"""What the scheduler asks of a processor, as LLVM IR text for each kind: floating-point control, and a pause.

Every text defines the same functions. `flush_denormals` and `restore_denormals` stand around the tasks of a thread:
within, denormals count as zero (an operation on one costs 100 cycles and more), rounding is to nearest, nothing traps;
the caller's own settings come back afterwards, whatever they were. `pause` is run between two looks at a word that
another thread is to change.
"""

__all__ = ["architecture_source"]

_X86 = """
define internal i64 @flush_denormals() nounwind {
  %slot = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %slot)
  %old = load i32, ptr %slot
  store i32 40896, ptr %slot               ; 0x9FC0: the default 0x1F80, flush to zero 0x8000, denormals are zero 0x0040
  call void @llvm.x86.sse.ldmxcsr(ptr %slot)
  %saved = zext i32 %old to i64
  ret i64 %saved
}

define internal void @restore_denormals(i64 %saved) nounwind {
  %slot = alloca i32
  %old = trunc i64 %saved to i32
  store i32 %old, ptr %slot
  call void @llvm.x86.sse.ldmxcsr(ptr %slot)
  ret void
}

define internal void @pause() nounwind {
  call void @llvm.x86.sse2.pause()
  ret void
}

declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
declare void @llvm.x86.sse2.pause()
"""

_AARCH64 = """
define internal i64 @flush_denormals() nounwind {
  %saved = call i64 @llvm.aarch64.get.fpcr()
  call void @llvm.aarch64.set.fpcr(i64 16777216)     ; bit 24: flush to zero; all else as after reset
  ret i64 %saved
}

define internal void @restore_denormals(i64 %saved) nounwind {
  call void @llvm.aarch64.set.fpcr(i64 %saved)
  ret void
}

define internal void @pause() nounwind {
  call void @llvm.aarch64.isb(i32 15)                ; waits some 10 ns; "yield" is a no-operation on most cores
  ret void
}

declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)
declare void @llvm.aarch64.isb(i32)
"""

_OTHER = """
define internal i64 @flush_denormals() nounwind {
  ret i64 0
}

define internal void @restore_denormals(i64 %saved) nounwind {
  ret void
}

define internal void @pause() nounwind {
  fence syncscope("singlethread") seq_cst            ; nothing to execute, only not to be optimised away
  ret void
}
"""


def architecture_source(architecture: str) -> str:
    """The three functions for "x86_64", "aarch64", or any other, whose denormals are left as they are."""
    return {"x86_64": _X86, "aarch64": _AARCH64}.get(architecture, _OTHER)
