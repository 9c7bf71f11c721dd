"""1x1 kernels whose pixels are read where they lie: nothing behind them is."""

import numpy as np
import pytest
from guarded import guarded
from row_checks import no_more_memory_than_stated
from strategies import expected, operands, targets

from starconv import Problem, get_num_threads, plan, set_num_threads
from starconv.engine.algorithms import product
from starconv.engine.emit.target import host_target

pytestmark = pytest.mark.skipif(host_target() is None, reason="no compiled code on this machine")


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize("end", [True, False])
def test_a_last_band_of_fewer_rows_reads_none_behind_them(end: bool, threads: int) -> None:
    problem = Problem.parse("conv2d x=1x256x11x7 w=16x256x1x1 channels_last")
    before = get_num_threads()
    set_num_threads(threads)
    try:
        for target in targets():
            if target is None or product.refuses(problem, target) is not None:
                continue
            given = operands(problem, threads)
            chosen = plan(problem, algorithm="product", target=target)
            # A picture that ends with its last row, and one whose rows run backwards, so that it ends with its first.
            for turn in (1, -1):
                pixels = np.moveaxis(given.first, 1, -1)[:, ::turn]
                x = np.moveaxis(guarded(pixels, end=end, read_only=True)[:, ::turn], -1, 1)
                np.testing.assert_array_equal(chosen(x, given.second), expected(problem, given))
    finally:
        set_num_threads(before)


def test_bands_are_not_always_even() -> None:
    target = host_target()
    assert target is not None
    problem = Problem.parse("conv2d x=1x256x11x7 w=16x256x1x1 channels_last")
    cuts = [product.cut_of(problem, target, threads) for threads in (1, 2, 3, 4)]
    assert any(cut.bands > 1 and 11 % cut.rows * 7 % 6 for cut in cuts)


@pytest.mark.parametrize("cores", [2, 3, 5])
@pytest.mark.parametrize("text", ["conv2d x=1x360x7x49 w=32x360x1x1", "conv2d x=1x360x27x47 w=32x360x1x1"])
def test_no_more_memory_than_stated_for_sums_that_wait(text: str, cores: int) -> None:
    no_more_memory_than_stated(product, text, cores)
