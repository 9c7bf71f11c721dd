"""The compiled half of `threads.Lender`: a job done by the threads of an OpenMP library, as LLVM IR text.

It knows nothing of the gate of `scheduler`: the library starts its team and waits for it. Members claim tasks one by
one from a counter that lies on the caller's stack.
"""

__all__ = ["RUN_LENT"]

RUN_LENT = """
; ---- threads of another library --------------------------------------------------------------------------------

; The same job by an OpenMP team, for callers whose other work is done by one: OpenMP's threads poll for milliseconds
; after a parallel region, on the cores that our own workers would need. `parallel` is GOMP_parallel(function, argument,
; threads, flags): every member of the team calls function(argument), and it returns when all have.
%lent = type { ptr, ptr, i64, i64, i64 }                            ; task function, descriptor, tasks, next, members

define void @run_lent(ptr %parallel, ptr %task, ptr %descriptor, i64 %tasks, i64 %threads) nounwind {
  %job = alloca %lent, align 64
  store ptr %task, ptr %job
  %descriptor.slot = getelementptr %lent, ptr %job, i64 0, i32 1
  store ptr %descriptor, ptr %descriptor.slot
  %tasks.slot = getelementptr %lent, ptr %job, i64 0, i32 2
  store i64 %tasks, ptr %tasks.slot
  %next.slot = getelementptr %lent, ptr %job, i64 0, i32 3
  store i64 0, ptr %next.slot
  %members.slot = getelementptr %lent, ptr %job, i64 0, i32 4
  store i64 0, ptr %members.slot
  %useful = call i64 @llvm.smin.i64(i64 %threads, i64 %tasks)
  %team = trunc i64 %useful to i32
  call void %parallel(ptr @member, ptr %job, i32 %team, i32 0)
  ret void
}

define internal void @member(ptr %job) nounwind {
entry:
  %members.slot = getelementptr %lent, ptr %job, i64 0, i32 4
  %worker = atomicrmw add ptr %members.slot, i64 1 monotonic
  %task = load ptr, ptr %job
  %descriptor.slot = getelementptr %lent, ptr %job, i64 0, i32 1
  %descriptor = load ptr, ptr %descriptor.slot
  %tasks.slot = getelementptr %lent, ptr %job, i64 0, i32 2
  %tasks = load i64, ptr %tasks.slot
  %next.slot = getelementptr %lent, ptr %job, i64 0, i32 3
  %saved = call i64 @flush_denormals()
  br label %take
take:
  %index = atomicrmw add ptr %next.slot, i64 1 monotonic
  %more = icmp slt i64 %index, %tasks
  br i1 %more, label %run, label %done
run:
  call void %task(ptr %descriptor, i64 %index, i64 %worker)
  br label %take
done:
  call void @restore_denormals(i64 %saved)
  ret void
}
"""
