"""The compiled half of `threads`: how a job is shared among workers, as LLVM IR text with the reasons beside it.

A **job** is a task function ``void task(ptr descriptor, i64 task, i64 worker)``, its descriptor, and a number
of tasks. The caller publishes it, takes part as worker 0, and returns when every task is done. Nothing in
here waits for a worker to wake up: a worker that comes late finds the gate closed.

    caller (run_shared)                              worker (work)
    own the pool, or else run alone                  poll the gate, for a while
    write the job; open the gate          ------->   the gate is open: join (count + 1)
    wake two parked workers                          wake two more
    claim tasks until none is left                   claim tasks until none is left
    close the gate                                   leave (count - 1)
    wait until the count is zero          <-------   poll again; park when nothing came for a while

The **gate** is one word, so that "is it open" and "join" are one atomic step:

    bit  0-11  how many workers are inside        bit 24    open
    bit 12-23  size of the team, caller included  bit 25-   number of the job

A worker is inside only between its join and its leave, and the caller returns only at count zero: after that
nobody touches the descriptor. The fields of a job are written while the gate is closed and empty.

A **list** of jobs (run_list) is worked off by one caller that owns the pool all the while, gate by gate.

Parking uses the system's own semaphores through function pointers set by `set_up`, so a worker never needs
the interpreter between two jobs. A worker first says "parked" and then looks at the gate again, the caller
first opens the gate and then looks for parked workers, both sequentially consistent: one of them sees the other.

Two parts of the text are apart from this: `openmp`, for threads that are not ours, and `architectures`, for what each
kind of processor does in its own way.
"""

from starconv.engine.runtime.architectures import architecture_source
from starconv.engine.runtime.openmp import RUN_LENT

__all__ = ["MAX_THREADS", "source"]

# The team size has 12 bits in the gate; 256 rows of worker state are 32 KiB that stay untouched until used.
MAX_THREADS = 256

# Every job sets so many counters back, 128 bytes apart.
HOMES = 8

_CALLERS = f"""
; Every row has 128 bytes to itself: a line, and the neighbour that the prefetcher fetches with it.
@owner    = internal global [16 x i64] zeroinitializer, align 128   ; 1 while a caller has the pool
@gate     = internal global [16 x i64] zeroinitializer, align 128
@next     = internal global [{HOMES} x [16 x i64]] zeroinitializer, align 128  ; how many tasks of each home are claimed
%job      = type {{ ptr, ptr, i64, i64 }}                             ; task function, descriptor, tasks, homes
@job      = internal global %job zeroinitializer, align 128
%listed   = type {{ ptr, ptr, i64, i64 }}                             ; one of a list: a job, and threads
%settings = type {{ ptr, ptr, ptr, i64, i64 }}                        ; park, wake, yield, polls before parking, stop
@settings = internal global %settings zeroinitializer, align 128
%worker   = type {{ i64, ptr, [112 x i8] }}                           ; parked?, semaphore, room for a semaphore
@workers  = internal global [{MAX_THREADS} x %worker] zeroinitializer, align 128

; ---- one thread, no pool -------------------------------------------------------------------------------------

define void @run_alone(ptr %task, ptr %descriptor, i64 %tasks) nounwind {{
  %saved = call i64 @flush_denormals()
  call void @each(ptr %task, ptr %descriptor, i64 %tasks)
  call void @restore_denormals(i64 %saved)
  ret void
}}

define internal void @each(ptr %task, ptr %descriptor, i64 %tasks) nounwind {{
entry:
  br label %check
check:
  %index = phi i64 [ 0, %entry ], [ %following, %body ]
  %more = icmp slt i64 %index, %tasks
  br i1 %more, label %body, label %done
body:
  call void %task(ptr %descriptor, i64 %index, i64 0)
  %following = add i64 %index, 1
  br label %check
done:
  ret void
}}

; ---- the caller ----------------------------------------------------------------------------------------------

define void @run_shared(ptr %task, ptr %descriptor, i64 %tasks, i64 %threads) nounwind {{
entry:
  %mine = call i64 @own()
  %owned = icmp eq i64 %mine, 1
  br i1 %owned, label %together, label %alone

alone:                                     ; another job has the pool, perhaps the one we were called from
  call void @run_alone(ptr %task, ptr %descriptor, i64 %tasks)
  ret void

together:
  %saved = call i64 @flush_denormals()
  call void @share(ptr %task, ptr %descriptor, i64 %tasks, i64 %threads)
  call void @restore_denormals(i64 %saved)
  call void @disown()
  ret void
}}

; Job after job, each done before the next begins. The pool is entered once, and helpers keep polling in between.
define void @run_list(ptr %list, i64 %count, i64 %threads) nounwind {{
entry:
  %saved = call i64 @flush_denormals()
  %several = icmp sgt i64 %threads, 1
  br i1 %several, label %try, label %begin
try:
  %mine = call i64 @own()
  br label %begin
begin:
  %owned = phi i64 [ 0, %entry ], [ %mine, %try ]
  %pool = icmp eq i64 %owned, 1
  br label %check

check:
  %index = phi i64 [ 0, %begin ], [ %following, %next ]
  %more = icmp slt i64 %index, %count
  br i1 %more, label %read, label %done
read:
  %task.slot = getelementptr %listed, ptr %list, i64 %index, i32 0
  %task = load ptr, ptr %task.slot
  %descriptor.slot = getelementptr %listed, ptr %list, i64 %index, i32 1
  %descriptor = load ptr, ptr %descriptor.slot
  %tasks.slot = getelementptr %listed, ptr %list, i64 %index, i32 2
  %tasks = load i64, ptr %tasks.slot
  %threads.slot = getelementptr %listed, ptr %list, i64 %index, i32 3
  %wanted = load i64, ptr %threads.slot
  %useful = call i64 @llvm.smin.i64(i64 %wanted, i64 %tasks)
  %serves = icmp sgt i64 %useful, 1
  %shared = and i1 %pool, %serves
  br i1 %shared, label %together, label %alone
together:
  call void @share(ptr %task, ptr %descriptor, i64 %tasks, i64 %wanted)
  br label %next
alone:
  call void @each(ptr %task, ptr %descriptor, i64 %tasks)
  br label %next
next:
  %following = add i64 %index, 1
  br label %check

done:
  br i1 %pool, label %give, label %leave
give:
  call void @disown()
  br label %leave
leave:
  call void @restore_denormals(i64 %saved)
  ret void
}}

; One job on several threads, by the owner of the pool.
define internal void @share(ptr %task, ptr %descriptor, i64 %tasks, i64 %threads) nounwind {{
publish:
  %useful = call i64 @llvm.smin.i64(i64 %threads, i64 %tasks)
  %team = call i64 @llvm.smin.i64(i64 %useful, i64 {MAX_THREADS})
  store ptr %task, ptr @job
  store ptr %descriptor, ptr getelementptr (%job, ptr @job, i64 0, i32 1)
  store i64 %tasks, ptr getelementptr (%job, ptr @job, i64 0, i32 2)
  %homes = call i64 @llvm.smin.i64(i64 %team, i64 {HOMES})
  store i64 %homes, ptr getelementptr (%job, ptr @job, i64 0, i32 3)
  br label %clear
clear:
  %home = phi i64 [ 0, %publish ], [ %home.next, %clear ]
  %claimed = getelementptr [{HOMES} x [16 x i64]], ptr @next, i64 0, i64 %home
  store atomic i64 0, ptr %claimed monotonic, align 8
  %home.next = add i64 %home, 1
  %more = icmp slt i64 %home.next, %homes
  br i1 %more, label %clear, label %begin
begin:
  %before = load atomic i64, ptr @gate monotonic, align 8
  %number = lshr i64 %before, 25
  %number.next = add i64 %number, 1
  %number.bits = shl i64 %number.next, 25
  %team.bits = shl i64 %team, 12
  %named = or i64 %number.bits, %team.bits
  %open = or i64 %named, {1 << 24}
  store atomic i64 %open, ptr @gate seq_cst, align 8
  call void @wake_two(i64 0, i64 %team)
  call void @claim(i64 0)
  %closed = atomicrmw and ptr @gate, i64 {~(1 << 24)} acq_rel
  %patience = load i64, ptr getelementptr (%settings, ptr @settings, i64 0, i32 3)
  br label %wait

wait:
  %left = phi i64 [ %patience, %begin ], [ %less, %spin ], [ 0, %give.way ]
  %now = load atomic i64, ptr @gate acquire, align 8
  %inside = and i64 %now, 4095
  %empty = icmp eq i64 %inside, 0
  br i1 %empty, label %finished, label %linger
linger:
  %patient = icmp sgt i64 %left, 0
  br i1 %patient, label %spin, label %give.way
spin:
  call void @pause()
  %less = sub i64 %left, 1
  br label %wait
give.way:                                  ; more threads than processors: let the worker we wait for run
  %yield = load ptr, ptr getelementptr (%settings, ptr @settings, i64 0, i32 2)
  %unused = call i64 %yield()
  br label %wait

finished:
  ret void
}}

; Claim tasks one by one until there are none. Which thread runs a task is a matter of luck, that each runs once is not.
; Every worker begins at home, in a part of the tasks that is the same in every job: what it wrote in one layer is in
; its own cache when the next one reads it. Then it helps at the other homes.
define internal void @claim(i64 %worker) nounwind {{
entry:
  %task = load ptr, ptr @job
  %descriptor = load ptr, ptr getelementptr (%job, ptr @job, i64 0, i32 1)
  %tasks = load i64, ptr getelementptr (%job, ptr @job, i64 0, i32 2)
  %homes = load i64, ptr getelementptr (%job, ptr @job, i64 0, i32 3)
  %own = urem i64 %worker, %homes
  br label %visit
visit:
  %visited = phi i64 [ 0, %entry ], [ %visited.next, %leave ]
  %sum = add i64 %own, %visited
  %home = urem i64 %sum, %homes
  %home.after = add i64 %home, 1
  %first.scaled = mul i64 %home, %tasks
  %first = udiv i64 %first.scaled, %homes
  %last.scaled = mul i64 %home.after, %tasks
  %last = udiv i64 %last.scaled, %homes
  %claimed = getelementptr [{HOMES} x [16 x i64]], ptr @next, i64 0, i64 %home
  br label %take
take:
  %number = atomicrmw add ptr %claimed, i64 1 monotonic
  %index = add i64 %first, %number
  %more = icmp slt i64 %index, %last
  br i1 %more, label %run, label %leave
run:
  call void %task(ptr %descriptor, i64 %index, i64 %worker)
  br label %take
leave:
  %visited.next = add i64 %visited, 1
  %others = icmp slt i64 %visited.next, %homes
  br i1 %others, label %visit, label %done
done:
  ret void
}}

; Waking costs a system call of 1-2 us, so it spreads like a tree: n wakes n and n, not one after the other.
define internal void @wake_two(i64 %index, i64 %team) nounwind {{
  %twice = shl i64 %index, 1
  %left = add i64 %twice, 1
  %right = add i64 %twice, 2
  call void @wake(i64 %left, i64 %team)
  call void @wake(i64 %right, i64 %team)
  ret void
}}

define internal void @wake(i64 %index, i64 %team) nounwind {{
entry:
  %exists = icmp slt i64 %index, %team
  br i1 %exists, label %look, label %done
look:
  %parked = getelementptr [{MAX_THREADS} x %worker], ptr @workers, i64 0, i64 %index, i32 0
  %seen = load atomic i64, ptr %parked seq_cst, align 8
  %asleep = icmp eq i64 %seen, 1
  br i1 %asleep, label %take, label %done
take:                                      ; the one that turns 1 into 0 posts the semaphore, once
  %was = atomicrmw xchg ptr %parked, i64 0 acq_rel
  %first = icmp eq i64 %was, 1
  br i1 %first, label %post, label %done
post:
  %wake.function = load ptr, ptr getelementptr (%settings, ptr @settings, i64 0, i32 1)
  %semaphore.slot = getelementptr [{MAX_THREADS} x %worker], ptr @workers, i64 0, i64 %index, i32 1
  %semaphore = load ptr, ptr %semaphore.slot
  %unused = call i64 %wake.function(ptr %semaphore, i64 1, i64 0)
  br label %done
done:
  ret void
}}
"""

_WORKERS = f"""
; ---- a worker ------------------------------------------------------------------------------------------------

define void @work(i64 %index) nounwind {{
entry:
  %polls = load i64, ptr getelementptr (%settings, ptr @settings, i64 0, i32 3)
  %parked = getelementptr [{MAX_THREADS} x %worker], ptr @workers, i64 0, i64 %index, i32 0
  %semaphore.slot = getelementptr [{MAX_THREADS} x %worker], ptr @workers, i64 0, i64 %index, i32 1
  %semaphore = load ptr, ptr %semaphore.slot
  %saved = call i64 @flush_denormals()
  br label %poll

poll:                                      ; %last: the job this worker has already helped with
  %left = phi i64 [ %polls, %entry ], [ %less, %idle ], [ %left, %join ], [ %polls, %work ], [ %polls, %up ]
  %last = phi i64 [ 0, %entry ], [ %last, %idle ], [ %last, %join ], [ %number, %work ], [ %last, %up ]
  %gate = load atomic i64, ptr @gate acquire, align 8
  %number = lshr i64 %gate, 25
  %wanted = call i1 @wanted(i64 %gate, i64 %index, i64 %last)
  br i1 %wanted, label %join, label %none

join:                                      ; fails when the gate changed in between: look again
  %joined = add i64 %gate, 1
  %attempt = cmpxchg ptr @gate, i64 %gate, i64 %joined acquire monotonic
  %inside = extractvalue {{ i64, i1 }} %attempt, 1
  br i1 %inside, label %work, label %poll

work:
  %team.bits = lshr i64 %gate, 12
  %team = and i64 %team.bits, 4095
  call void @wake_two(i64 %index, i64 %team)
  call void @claim(i64 %index)
  %leaving = atomicrmw sub ptr @gate, i64 1 release
  br label %poll

none:
  %stop = load atomic i64, ptr getelementptr (%settings, ptr @settings, i64 0, i32 4) acquire, align 8
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %leave, label %linger
linger:
  %patient = icmp sgt i64 %left, 0
  br i1 %patient, label %idle, label %park
idle:
  call void @pause()
  %less = sub i64 %left, 1
  br label %poll

park:
  store atomic i64 1, ptr %parked seq_cst, align 8
  %again = load atomic i64, ptr @gate seq_cst, align 8
  %missed = call i1 @wanted(i64 %again, i64 %index, i64 %last)
  %stop.again = load atomic i64, ptr getelementptr (%settings, ptr @settings, i64 0, i32 4) seq_cst, align 8
  %stopping = icmp ne i64 %stop.again, 0
  %stay = or i1 %missed, %stopping
  br i1 %stay, label %up, label %sleep
sleep:                                     ; a signal may end this early: then we poll once more and come back
  %park.function = load ptr, ptr @settings
  %unused = call i64 %park.function(ptr %semaphore, i64 -1, i64 0)
  br label %up
up:                                        ; a post that came in between only makes the next sleep short
  store atomic i64 0, ptr %parked seq_cst, align 8
  br label %poll

leave:
  call void @restore_denormals(i64 %saved)
  ret void
}}

; Is there an open job that this worker belongs to and has not been in yet?
define internal i1 @wanted(i64 %gate, i64 %index, i64 %last) nounwind {{
  %open.bit = and i64 %gate, {1 << 24}
  %open = icmp ne i64 %open.bit, 0
  %team.bits = lshr i64 %gate, 12
  %team = and i64 %team.bits, 4095
  %member = icmp slt i64 %index, %team
  %number = lshr i64 %gate, 25
  %new = icmp ne i64 %number, %last
  %both = and i1 %open, %member
  %all = and i1 %both, %new
  ret i1 %all
}}

; ---- what Python calls to manage the pool ----------------------------------------------------------------------

; 1 if the pool was free and is now the caller's.
define i64 @own() nounwind {{
  %attempt = cmpxchg ptr @owner, i64 0, i64 1 acq_rel monotonic
  %won = extractvalue {{ i64, i1 }} %attempt, 1
  %answer = zext i1 %won to i64
  ret i64 %answer
}}

define void @disown() nounwind {{
  store atomic i64 0, ptr @owner release, align 8
  ret void
}}

define void @set_up(ptr %park, ptr %wake, ptr %yield, i64 %polls) nounwind {{
  store ptr %park, ptr @settings
  store ptr %wake, ptr getelementptr (%settings, ptr @settings, i64 0, i32 1)
  store ptr %yield, ptr getelementptr (%settings, ptr @settings, i64 0, i32 2)
  store i64 %polls, ptr getelementptr (%settings, ptr @settings, i64 0, i32 3)
  ret void
}}

; Memory for the semaphore of a worker. It is here and not in Python because a parked worker may outlive all objects.
define ptr @semaphore_room(i64 %index) nounwind {{
  %room = getelementptr [{MAX_THREADS} x %worker], ptr @workers, i64 0, i64 %index, i32 2
  ret ptr %room
}}

define void @set_semaphore(i64 %index, ptr %semaphore) nounwind {{
  %slot = getelementptr [{MAX_THREADS} x %worker], ptr @workers, i64 0, i64 %index, i32 1
  store ptr %semaphore, ptr %slot
  ret void
}}

; Tell all workers to return (1), or allow new ones to stay (0). Only the owner of the pool may.
define void @set_stop(i64 %stop) nounwind {{
entry:
  store atomic i64 %stop, ptr getelementptr (%settings, ptr @settings, i64 0, i32 4) seq_cst, align 8
  br label %each
each:
  %index = phi i64 [ 1, %entry ], [ %following, %each ]
  call void @wake(i64 %index, i64 {MAX_THREADS})
  %following = add i64 %index, 1
  %more = icmp slt i64 %following, {MAX_THREADS}
  br i1 %more, label %each, label %done
done:
  ret void
}}

; In a forked child: the workers and the owner stayed behind, so nobody is inside, parked or waiting.
define void @forget() nounwind {{
entry:
  store atomic i64 0, ptr @gate seq_cst, align 8
  store atomic i64 0, ptr getelementptr (%settings, ptr @settings, i64 0, i32 4) seq_cst, align 8
  br label %each
each:
  %index = phi i64 [ 1, %entry ], [ %following, %each ]
  %parked = getelementptr [{MAX_THREADS} x %worker], ptr @workers, i64 0, i64 %index, i32 0
  store atomic i64 0, ptr %parked seq_cst, align 8
  %following = add i64 %index, 1
  %more = icmp slt i64 %following, {MAX_THREADS}
  br i1 %more, label %each, label %done
done:
  call void @disown()
  ret void
}}

; `polls` idle rounds as a worker makes them, for Python to time.
define void @calibrate(i64 %polls) nounwind {{
entry:
  br label %round
round:
  %left = phi i64 [ %polls, %entry ], [ %less, %round ]
  %gate = load atomic i64, ptr @gate acquire, align 8
  %unused = call i1 @wanted(i64 %gate, i64 {MAX_THREADS}, i64 0)
  call void @pause()
  %less = sub i64 %left, 1
  %more = icmp sgt i64 %less, 0
  br i1 %more, label %round, label %done
done:
  ret void
}}

declare i64 @llvm.smin.i64(i64, i64)
"""


def source(architecture: str) -> str:
    """The scheduler as IR text for `architecture` ("x86_64", "aarch64", or any other without denormal control)."""
    return _CALLERS + RUN_LENT + _WORKERS + architecture_source(architecture)
