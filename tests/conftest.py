"""How the tests run: hypothesis profiles, and the heavy folder left alone where its packages may be missing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from starconv import get_num_threads, set_num_threads
from starconv.engine import planner
from starconv.engine.algorithms import TABLE
from starconv.engine.wisdom import Wisdom, signature_of

SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]

# Derandomized: a commit passes or fails for everybody alike. `--hypothesis-profile=explore` looks for new failures.
settings.register_profile(
    "quick", deadline=None, derandomize=True, max_examples=30, print_blob=True, suppress_health_check=SLOW_IS_FINE
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=300)
settings.register_profile("explore", settings.get_profile("quick"), derandomize=False, max_examples=2000)
settings.load_profile("quick")

HEAVY = Path(__file__).parent / "heavy"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`-m "not heavy"` does not import tests/heavy, whose packages `make test` does not install."""
    if collection_path == HEAVY and config.getoption("markexpr") == "not heavy":
        return True
    return None


@pytest.fixture(scope="session", autouse=True)
def nothing_was_tuned() -> None:
    """The cost model chooses, whatever was measured on this machine, so that tests mean the same everywhere."""
    planner.use_wisdom(Wisdom(signature_of([row.NAME for row in TABLE]), keep=False))


@pytest.fixture(scope="module", autouse=True)
def _threads_as_before() -> Iterator[None]:
    """The number of threads belongs to the process: a file that sets it must not decide how the next one runs."""
    before = get_num_threads()
    yield
    set_num_threads(before)
