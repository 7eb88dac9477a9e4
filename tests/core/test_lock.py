"""The lock that guards the books survives exceptions from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from pymysqlpool._util.lock import Lock, StruckProofLock, new_lock
from tests.support import Bolt, strike, wait_until

STRIKES = 500  # of which a plain `with lock:` of CPython 3.14 lets a dozen leave the lock taken, some 200 without a GIL


class Taker(threading.Thread):
    """Takes a lock and gives it back, again and again, and counts what came of the bolts that struck it."""

    def __init__(self, lock: Lock) -> None:
        super().__init__(daemon=True)  # one that hangs must not keep the test run from ending
        self.lock = lock
        self.struck = 0
        self.back_at_work_after = -1  # it has not begun
        self.left_taken = 0
        self.done = False

    def run(self) -> None:
        while not self.done:
            try:
                self.take_and_give_back()
            except Bolt:
                if self.lock.locked():
                    self.left_taken += 1
                    self.lock.release()
                self.struck += 1

    def take_and_give_back(self) -> None:
        while not self.done:
            with self.lock:
                self.back_at_work_after = self.struck


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("make", [new_lock, StruckProofLock])
def test_an_exception_from_outside_never_leaves_a_lock_taken(make: Callable[[], Lock]) -> None:
    """Invariant 3: which is more than CPython 3.14's own `with lock:` does."""
    taker = Taker(make())
    taker.start()
    wait_until(lambda: taker.back_at_work_after == 0, "it is at work")
    for bolts in range(1, STRIKES + 1):
        strike(taker)
        wait_until(lambda: taker.back_at_work_after == bolts, "the bolt has struck")  # noqa: B023 - called at once
    taker.done = True
    taker.join(10)
    assert not taker.is_alive()
    assert taker.left_taken == 0


@pytest.mark.parametrize("make", [new_lock, StruckProofLock])
def test_the_lock_keeps_out_whoever_comes_second_until_the_block_ends_or_raises(make: Callable[[], Lock]) -> None:
    lock = make()
    with lock:
        assert lock.locked()
        assert not lock.acquire(blocking=False), "not even the same thread takes it again"
    assert not lock.locked()
    with pytest.raises(ValueError, match="as it was raised"), lock:
        raise ValueError("as it was raised")
    assert lock.acquire(blocking=False)
    lock.release()
