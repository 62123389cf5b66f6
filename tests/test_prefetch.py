"""Stages at the same time: order, bounds, errors, and an end when nobody listens."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from viscera.runtime.prefetch import map_concurrently, prefetch


def test_ahead_keeps_order_and_stays_within_its_bound():
    made = []

    def items():
        for n in range(50):
            made.append(n)
            yield n

    for n in prefetch(items(), most=3):
        # Waiting, in the maker's hand, and the one at hand.
        assert len(made) <= n + 3 + 2
    assert made == list(range(50))


def broken():
    yield 1
    raise ValueError("damaged")


def test_what_goes_wrong_in_the_maker_is_raised_where_its_items_are_used():
    found = []
    with pytest.raises(ValueError, match="damaged"):
        found.extend(prefetch(broken(), most=2))
    assert found in ([], [1])


def test_the_maker_ends_when_the_listener_stops():
    before = threading.active_count()
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    listener = prefetch(endless(), most=2)
    assert next(listener) == 0
    listener.close()
    assert threading.active_count() == before


def test_side_by_side_keeps_order_whatever_is_done_first():
    with ThreadPoolExecutor(4) as pool:
        work = map_concurrently(
            lambda n: (time.sleep(0.01 * (n % 3)), n)[1], range(20), pool=pool, most=4
        )
        assert list(work) == list(range(20))


def test_side_by_side_begins_no_more_than_it_may():
    begun = []
    with ThreadPoolExecutor(4) as pool:
        for n in map_concurrently(begun.append, range(30), pool=pool, most=3):
            assert n is None
            assert len(begun) <= 30
        begun.clear()
        results = map_concurrently(lambda n: begun.append(n) or n, range(30), pool=pool, most=3)
        assert next(results) == 0
        results.close()
    assert len(begun) <= 3


def test_an_error_in_the_pool_is_raised_and_ends_the_work():
    def work(n):
        if n == 2:
            raise ValueError("two")
        return n

    with ThreadPoolExecutor(2) as pool, pytest.raises(ValueError, match="two"):
        list(map_concurrently(work, range(100), pool=pool, most=2))
