"""Stages at the same time: what one makes, another uses meanwhile; never more waits than said."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from queue import Empty, Full, Queue
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_END = object()
_POLL_S = 0.05  # how soon a maker notices that nobody listens any more


def prefetch(items: Iterable[Item], *, most: int) -> Iterator[Item]:
    """The same items in the same order, made by a thread of their own.

    What goes wrong there is raised here; when the listener stops early, the thread ends too.

    Args:
        items: what is made.
        most: how many may wait to be used.
    """
    waiting: Queue[tuple[Any, BaseException | None]] = Queue(maxsize=most)
    unwanted = threading.Event()

    def put(item: Any, error: BaseException | None = None) -> bool:
        while not unwanted.is_set():
            try:
                waiting.put((item, error), timeout=_POLL_S)
                return True
            except Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(_END)
        except BaseException as error:
            put(_END, error)

    maker = threading.Thread(target=make, daemon=True)
    maker.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        unwanted.set()
        while maker.is_alive():
            try:
                waiting.get_nowait()  # let go of what nobody wants, and of the maker
            except Empty:
                maker.join(_POLL_S)


def map_concurrently(
    work: Callable[[Item], Result], items: Iterable[Item], *, pool: Executor, most: int
) -> Iterator[Result]:
    """Results in the order of their items, made by a pool while earlier ones are used.

    What goes wrong there is raised here; when the listener stops early, nothing more is begun.

    Args:
        work: what is done to each.
        items: what it is done to.
        pool: does it.
        most: so many may be under way or wait to be used.
    """
    begun: deque[Future[Result]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) == most:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()
