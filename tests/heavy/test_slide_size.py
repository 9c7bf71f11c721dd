"""How large the files of animations are. (How long they take is for a benchmark: processors differ.)"""

import pytest

from starconv.view import slide

pytestmark = pytest.mark.heavy


def test_a_gif_of_60_frames(tmp_path):
    animation = slide((10, 10), (3, 3), max_frames=60)
    assert len(animation) == 60
    assert animation.save(tmp_path / "sixty.gif").stat().st_size < 1_000_000


def test_a_page_of_a_7x7_input_is_small(tmp_path):
    for arguments in ({"padding": 1}, {"padding": "full"}, {"transposed": True, "stride": 2, "method": "stamp"}):
        assert slide((7, 7), (3, 3), **arguments).save(tmp_path / "a.html").stat().st_size < 300_000
