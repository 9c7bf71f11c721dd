"""How long an animation takes: measured in processor time, so that a busy machine does not decide."""

import time

import pytest

from starconv.view import slide

pytestmark = pytest.mark.heavy


def test_a_gif_of_60_frames_in_under_6_seconds(tmp_path):
    start = time.process_time()
    animation = slide((10, 10), (3, 3), max_frames=60)
    animation.save(tmp_path / "sixty.gif")
    assert len(animation) == 60
    assert time.process_time() - start < 6


def test_a_page_of_a_7x7_input_is_small(tmp_path):
    for arguments in ({"padding": 1}, {"padding": "full"}, {"transposed": True, "stride": 2, "method": "stamp"}):
        assert slide((7, 7), (3, 3), **arguments).save(tmp_path / "a.html").stat().st_size < 300_000
