"""Mutated model files: every one is refused with a reason, or runs to the same result compiled and interpreted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).parent.parent / "model_fuzz.py"


def check(seed, count, folder):
    kept = folder / "case"
    command = [sys.executable, "-W", "error", str(WORKER), str(seed), str(count), str(kept)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"died with {done.returncode} of the file {kept}: {done.stderr[-2000:]}"
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["bad"] == []
    assert sum(result["seen"].values()) == count
    assert set(result["seen"]) == {"refused", "failed", "ran"}  # the mutations reach everything
    return result


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited by what Linux says of it")
def test_mutated_files(tmp_path):
    check(0, 200, tmp_path)


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(1, 6))
def test_many_mutated_files(seed, tmp_path):
    check(seed, 500, tmp_path)
