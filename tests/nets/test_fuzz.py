"""Mutated model files: every one is refused with a reason, or runs to the same result compiled and interpreted."""

import sys

import pytest
from fuzzing import started

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and read as Linux has it")


def check(seed, count, folder, limits):
    seen = started("model_fuzz.py", seed, count, folder, limits)
    assert set(seen) == {"refused", "failed", "ran"}  # the mutations reach everything


@pytest.mark.parametrize("limits", ["tight", "default"])
def test_mutated_files(limits, tmp_path):
    check(0, 120, tmp_path, limits)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("seed", "limits"), [*((seed, "tight") for seed in range(1, 6)), (6, "default"), (7, "default")]
)
def test_many_mutated_files(seed, limits, tmp_path):
    check(seed, 500, tmp_path, limits)
