"""How often a client may try: in a window that moves, with memory that is bounded."""

from datamgr.api import rate
from datamgr.api.rate import RateLimit


def test_so_many_tries_in_any_span_and_not_one_more() -> None:
    limit = RateLimit(3, 60)
    assert [limit.admits("a", now) for now in (0, 10, 20, 30)] == [True, True, True, False]
    assert limit.admits("b", 30)
    # The try at 0 is over; the refused one at 30 did not count.
    assert limit.admits("a", 60)
    assert not limit.admits("a", 61)
    assert limit.admits("a", 70)


def test_those_who_tried_longest_ago_are_forgotten() -> None:
    limit = RateLimit(1, 60)
    for number in range(rate.MAX_CLIENTS + 1):
        assert limit.admits(str(number), 0)
    assert len(limit._tries) == rate.MAX_CLIENTS
    assert not limit.admits(str(rate.MAX_CLIENTS), 1)
    assert limit.admits("0", 1)
