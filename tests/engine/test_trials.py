"""Three hundred random problems, arrays between guard pages; tests/heavy has ten thousand."""

import pytest
from trials import run_trials

from starconv.engine.emit.target import host_target


@pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")
def test_random_problems_between_guard_pages() -> None:
    report = run_trials(seed=1, count=300, modules=40, seconds=120)
    assert report.startswith("300 problems"), report
