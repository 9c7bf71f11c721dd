"""Ten thousand random problems, arrays between guard pages, in two processes."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from trials import run_trials

from starconv.engine.emit.target import host_target

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine"),
]


def test_ten_thousand_problems() -> None:
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(partial(run_trials, count=5000, modules=400, seconds=1200), (11, 12)))
    assert [report.split()[0] for report in reports] == ["5000", "5000"], reports
