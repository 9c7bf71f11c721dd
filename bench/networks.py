"""Whole networks beside onnxruntime and OpenVINO, from one ONNX file: time per call, and time and memory of a first."""

import importlib.util
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import timing
from .children import numbers
from .machine import cores
from .report import Figure

NETWORKS = {"resnet18": 1.2, "mobilenet_v2": 1.0, "squeezenet1_1": 1.2}
"""By name, with the ratio of a peer's time to ours that is wanted. Weights are random, from a seed."""
BATCHES = (1, 8)
SHAPE = (3, 224, 224)
EFFORT = timing.Effort(rounds=5, attempts=8, budget=10.0, seconds=0.15, warm_up=0.1)

FIRST_ANSWER = {
    "starconv": """
import sys, time
import llvmlite.binding
import numpy as np
import onnx
from starconv import nets
from starconv.engine import algorithms, program
x = np.ones((1, 3, 224, 224), "float32")
start = time.perf_counter()
nets.load(sys.argv[1])(x)
print(time.perf_counter() - start)
""",
    "onnxruntime": """
import sys, time
import numpy as np
import onnxruntime
x = np.ones((1, 3, 224, 224), "float32")
start = time.perf_counter()
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
session.run(None, {session.get_inputs()[0].name: x})
print(time.perf_counter() - start)
""",
}
"""Print the seconds from a file to an answer, in a process that has imported what it needs."""


PEAK = {
    "starconv": """
import sys
import numpy as np
import starconv
from starconv import nets
x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype("float32")
starconv.set_num_threads(int(sys.argv[2]))
nets.load(sys.argv[1])(x)
""",
    "onnxruntime": """
import sys
import numpy as np
import onnxruntime
x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype("float32")
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, {session.get_inputs()[0].name: x})
""",
}
"""One answer, in a process that is as a user has it."""
PRINT_PEAK = """
from bench.children import peak_bytes
print(peak_bytes())
"""
"""Prints the bytes of the process at its largest; imported last, not to count what a user has not."""


def measure(check: bool = False) -> list[Figure]:
    """All figures; with `check`, the smallest network once."""
    if importlib.util.find_spec("onnx") is None:
        return []
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in list(NETWORKS)[-1:] if check else NETWORKS:
            path = _written(name, folder)
            for batch in BATCHES[:1] if check else BATCHES:
                figures += _calls(name, path, batch, timing.QUICK if check else EFFORT)
            figures += _first_answers(name, path, 1 if check else 3)
            figures += _peaks(name, path, 1 if check else 3)
    return figures


def _written(name: str, folder: str) -> str:
    from starconv import nets

    path = str(Path(folder) / f"{name}.onnx")
    nets.model(name, seed=0).to_onnx(path)
    return path


def _calls(name: str, path: str, batch: int, effort: timing.Effort) -> list[Figure]:
    x = np.random.default_rng(0).standard_normal((batch, *SHAPE)).astype(np.float32)
    entrants = {"starconv": _starconv, "onnxruntime": _onnxruntime, "openvino": _openvino}
    there = {who: ready(path, x) for who, ready in entrants.items() if importlib.util.find_spec(who) is not None}
    answers = {who: np.asarray(call()) for who, call in there.items()}
    ours = answers["starconv"]
    for who, answer in answers.items():
        if np.abs(answer - ours).max() > 1e-3 * np.abs(ours).max():
            raise RuntimeError(f"{who} gives other numbers for {name} than starconv")
    times, others = timing.alternate(there, effort)
    note = "" if others is None else f"others used {others:.0%} of the machine"
    what = f"{name}, {batch} pictures, {cores()} threads"
    figures = [Figure("networks", f"{what}: starconv", 1e3 * times["starconv"].seconds, "ms", None, note)]
    for who in there:
        if who != "starconv":
            ratio = times[who].seconds / times["starconv"].seconds
            figures.append(Figure("networks", f"{what}: {who} ÷ starconv", ratio, "x", NETWORKS[name]))
    return figures


def _first_answers(name: str, path: str, rounds: int) -> list[Figure]:
    """Medians over fresh processes, in turns, the compiled kernels on disk."""
    seconds: dict[str, list[float]] = {who: [] for who in FIRST_ANSWER if importlib.util.find_spec(who) is not None}
    for _ in range(rounds + 1):
        for who in seconds:
            seconds[who] += numbers(FIRST_ANSWER[who], path)
    medians = {who: statistics.median(values[1:]) for who, values in seconds.items()}
    figures = [
        Figure("networks", f"{name}: from the file to an answer, {who}", 1e3 * value, "ms")
        for who, value in medians.items()
    ]
    if "onnxruntime" in medians:
        ratio = medians["onnxruntime"] / medians["starconv"]
        figures.append(
            Figure("networks", f"{name}: from the file to an answer, onnxruntime ÷ starconv", ratio, "x", 1.0)
        )
    return figures


def _peaks(name: str, path: str, rounds: int) -> list[Figure]:
    """The least of some processes in turns, kernels on disk: where libraries' threads meet, some take 10 MiB more."""
    if not Path("/proc/self/status").exists():
        return []
    least: dict[str, float] = {}
    for number in range(rounds + 1):
        for who, code in PEAK.items():
            if importlib.util.find_spec(who) is not None:
                (peak,) = numbers(code + PRINT_PEAK, path, "2")
                if number:  # the first may have compiled kernels
                    least[who] = min(peak, least.get(who, peak))
    others = least.get("onnxruntime")
    target = None if others is None else round(others / 2**20)
    what = f"{name}: peak memory from the file to an answer, 2 threads"
    return [
        Figure("networks", f"{what}, {who}", peak / 2**20, "MiB", target if who == "starconv" else None)
        for who, peak in least.items()
    ]


def _starconv(path: str, x: np.ndarray) -> Callable[[], Any]:
    import starconv
    from starconv import nets

    starconv.set_num_threads(cores())
    network = nets.load(path)
    return lambda: network(x)


def _onnxruntime(path: str, x: np.ndarray) -> Callable[[], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})[0]


def _openvino(path: str, x: np.ndarray) -> Callable[[], Any]:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape(list(x.shape))
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": cores(), "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

    def call() -> Any:
        request.infer()
        return request.get_output_tensor().data

    return call
