"""Plans under threads, forks and interrupts: every result is the right one, whoever else is at work."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from strategies import operands

from starconv import Problem, plan
from starconv.engine.emit.target import host_target

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")

LAYERS = [
    "conv2d x=2x16x24x24 w=32x16x3x3 padding=1 bias",
    "conv2d x=1x3x40x40 w=8x3x5x5 stride=2 padding=2",
    "conv2d x=1x24x20x20 w=24x1x3x3 padding=1 groups=24",
    "conv1d x=1x1x3000 w=1x1x31",
    "conv2d x=1x17x9x9 w=33x17x1x1 channels_last relu",
]


def together(count: int, call: object) -> None:
    """Run `call(number)` in `count` threads that start at the same time; raise what any of them raised."""
    start, raised = threading.Barrier(count), []

    def body(number: int) -> None:
        try:
            start.wait(60)
            call(number)  # type: ignore[operator]
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    if raised:
        raise raised[0]


@pytest.mark.parametrize("algorithm", ["direct", "stencil"])
def test_one_prepared_plan_under_many_threads(algorithm: str) -> None:
    """Each thread has an input of its own; a block of scratch memory lent twice would mix them up."""
    problem = Problem.parse(LAYERS[0])
    given = operands(problem, 5, integers=False)
    prepared = plan(problem, algorithm=algorithm).prepare(given.second, given.bias)
    inputs = [given.first * np.float32(number + 1) for number in range(6)]
    answers = [prepared(x) for x in inputs]

    def hammer(number: int) -> None:
        out = np.empty_like(answers[number])
        for _ in range(150):
            assert prepared(inputs[number], out=out) is out
            assert np.array_equal(out, answers[number])

    together(6, hammer)


def test_many_plans_under_many_threads() -> None:
    problems = [Problem.parse(text) for text in LAYERS]
    given = [operands(problem, 3, integers=False) for problem in problems]
    answers = [plan(problem)(one.first, one.second, one.bias) for problem, one in zip(problems, given, strict=True)]

    def hammer(number: int) -> None:
        for turn in range(60):
            index = (turn + number) % len(problems)
            one = given[index]
            result = plan(problems[index])(one.first, one.second, one.bias)
            assert np.array_equal(result, answers[index])

    together(5, hammer)


def test_the_spare_block_is_fought_for() -> None:
    """One spare block, many takers, who switch as often as they can."""
    problem = Problem.parse("conv2d x=1x2x5x5 w=3x2x3x3")
    given = operands(problem, 1)
    prepared = plan(problem, algorithm="direct").prepare(given.second)
    answer = prepared(given.first)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def hammer(number: int) -> None:
            for _ in range(1500):
                assert np.array_equal(prepared(given.first), answer)

        together(4, hammer)
    finally:
        sys.setswitchinterval(interval)


def run(program: str, **environment: str) -> str:
    """The output of a program in a process of its own."""
    head = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", head + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_module_is_compiled_once_however_many_threads_want_it_first() -> None:
    """Eight threads make the first call of a shape at the same time."""
    program = """
        import threading
        import numpy as np
        from starconv import conv2d
        from starconv.engine.runtime import jit
        texts, compile_object = [], jit.compile_object
        def counted(text, *rest):
            if "@probe" not in text:   # whether code can run at all, which threads may find out side by side
                texts.append(text)
            return compile_object(text, *rest)
        jit.compile_object = counted
        x, w = np.ones((1, 16, 12, 12), np.float32), np.ones((24, 16, 3, 3), np.float32)
        start, results = threading.Barrier(8), []
        def call():
            start.wait()
            results.append(conv2d(x, w))
        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert len(results) == 8 and all((result == 144).all() for result in results)
        assert len(texts) == len(set(texts)) > 0
    """
    run(program, STARCONV_CACHE_DIR="off")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_while_other_threads_compute() -> None:
    """Children start with a pool of their own, compute what their parent does, and both go on."""
    program = """
        import os, threading, warnings
        import numpy as np
        from starconv import conv2d, set_num_threads
        warnings.simplefilter("ignore", DeprecationWarning)  # "fork in a process with threads", from Python 3.12
        set_num_threads(2)
        generator = np.random.default_rng(0)
        x = generator.standard_normal((1, 32, 48, 48)).astype("float32")
        w = generator.standard_normal((32, 32, 3, 3)).astype("float32")
        answer, stop, wrong = conv2d(x, w), threading.Event(), []
        def hammer():
            while not stop.is_set():
                if not np.array_equal(conv2d(x, w), answer): wrong.append(1)
        threads = [threading.Thread(target=hammer) for _ in range(2)]
        for thread in threads: thread.start()
        for turn in range(12):
            child = os.fork()
            if child == 0:
                fine = all(np.array_equal(conv2d(x, w), answer) for _ in range(5))
                fine &= conv2d(x[:, :, :9 + turn], w).shape[2] == 7 + turn   # a shape that is new to the child
                os._exit(0 if fine else 3)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, turn
        stop.set()
        for thread in threads: thread.join()
        assert not wrong
    """
    run(program)


@pytest.mark.skipif(not hasattr(os, "kill") or sys.platform == "win32", reason="no signals between processes")
def test_interrupts_in_the_middle_of_calls() -> None:
    """Ctrl-C thirty times: each stops a call, and the next call is as good as any."""
    program = """
        import os, signal, threading, time
        import numpy as np
        from starconv import conv2d, set_num_threads
        set_num_threads(2)
        generator = np.random.default_rng(0)
        x = generator.standard_normal((1, 32, 64, 64)).astype("float32")
        w = generator.standard_normal((32, 32, 3, 3)).astype("float32")
        answer = conv2d(x, w)
        interrupted = 0
        def interrupt(delay, noticed):
            # Again after a while: Python drops an interrupt that comes while memory is given back (a finalizer).
            while not noticed.wait(delay):
                os.kill(os.getpid(), signal.SIGINT)
                delay = 5

        for turn in range(30):
            noticed = threading.Event()
            timer = threading.Thread(target=interrupt, args=(0.004 + 0.0007 * turn, noticed))
            try:
                timer.start()
                while True:
                    conv2d(x[:, :, : 40 + turn % 20], w)   # new shapes: planning and compiling are interrupted too
                    assert np.array_equal(conv2d(x, w), answer)
            except KeyboardInterrupt:
                interrupted += 1
            noticed.set()
            timer.join()
            assert np.array_equal(conv2d(x, w), answer)
        assert interrupted == 30
        print("fine")
    """
    assert run(program) == "fine\n"
