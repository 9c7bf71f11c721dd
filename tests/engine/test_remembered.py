"""What solutions remember is bounded, and what was kept last is there."""

from starconv.engine.remembered import MOST, Remembered


def test_it_begins_anew_when_it_is_full():
    known = Remembered[int]()
    for number in range(MOST):
        assert known.keep((number,), number) == number
    assert len(known) == MOST
    known.keep((MOST,), MOST)
    assert known == {(MOST,): MOST}
