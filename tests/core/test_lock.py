"""The locks: an exception from outside never leaves one taken, and no thread waits for one that it holds."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pymysqlpool._util.lock import InsideOwnStepError, StepLock, StruckProofLock, new_lock
from tests.support import Bolt, strike, wait_until

STRIKES = 500  # of which a plain `with lock:` of CPython 3.14 lets a dozen leave the lock taken, some 200 without a GIL


class Section:
    """A kind of lock, and its inner one, by which a test sees whether it is taken."""

    def __init__(self) -> None:
        self.inner: Any = threading.Lock()

    def enter(self, work: Callable[[], None]) -> None:
        raise NotImplementedError

    def is_left_taken(self) -> bool:
        """Asked by the only thread that takes it."""
        return bool(self.inner.locked())


class StruckProof(Section):
    def __init__(self) -> None:
        super().__init__()
        self.lock = StruckProofLock(self.inner)

    def enter(self, work: Callable[[], None]) -> None:
        with self.lock:
            work()


class Step(Section):
    def __init__(self) -> None:
        self.lock = StepLock()
        self.inner = self.lock._lock

    def enter(self, work: Callable[[], None]) -> None:
        self.lock.step(work)


class Passing(Section):
    def __init__(self) -> None:
        self.inner = new_lock()

    def enter(self, work: Callable[[], None]) -> None:
        with self.inner:
            work()

    def is_left_taken(self) -> bool:
        return self.inner._is_owned() if hasattr(self.inner, "_is_owned") else False


KINDS = [StruckProof, Step, Passing]


class Taker(threading.Thread):
    """Takes a lock and gives it back, again and again, and counts what came of the bolts that struck it."""

    def __init__(self, section: Section) -> None:
        super().__init__(daemon=True)  # one that hangs must not keep the test run from ending
        self.section = section
        self.struck = 0
        self.back_at_work_after = -1  # it has not begun
        self.left_taken = 0
        self.done = False

    def run(self) -> None:
        while not self.done:
            try:
                self.take_and_give_back()
            except Bolt:
                if self.section.is_left_taken():
                    self.left_taken += 1
                    self.section.inner.release()
                self.struck += 1

    def take_and_give_back(self) -> None:
        while not self.done:
            self.section.enter(self.note)

    def note(self) -> None:
        self.back_at_work_after = self.struck


@pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer, as coverage's, loses some of the exceptions")
@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_from_outside_never_leaves_a_lock_taken(kind: type[Section]) -> None:
    """Invariant 3: which is more than CPython 3.14's own `with lock:` does."""
    taker = Taker(kind())
    taker.start()
    wait_until(lambda: taker.back_at_work_after == 0, "it is at work")
    for bolts in range(1, STRIKES + 1):
        strike(taker)
        wait_until(lambda: taker.back_at_work_after == bolts, "the bolt has struck")  # noqa: B023 - called at once
    taker.done = True
    taker.join(10)
    assert not taker.is_alive()
    assert taker.left_taken == 0


@pytest.mark.parametrize("kind", KINDS)
def test_one_thread_at_a_time_is_in_the_section_until_it_ends_or_raises(kind: type[Section]) -> None:
    section = kind()
    inside = threading.Event()
    leave = threading.Event()
    second = threading.Event()

    def stay() -> None:
        inside.set()
        leave.wait(20)
        raise ValueError("as it was raised")

    def first() -> None:
        with pytest.raises(ValueError, match="as it was raised"):
            section.enter(stay)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    inside.wait(20)
    threads.append(threading.Thread(target=lambda: section.enter(second.set)))
    threads[1].start()
    assert not second.wait(0.05)
    leave.set()
    assert second.wait(20)
    for thread in threads:
        thread.join(20)


def test_a_step_inside_a_step_is_refused_and_what_is_put_off_runs_after_it() -> None:
    """Invariant 19."""
    lock = StepLock()
    order: list[str] = []

    def step() -> str:
        assert lock.is_taken_here()
        with pytest.raises(InsideOwnStepError):
            lock.step(order.append, "never")
        assert lock.put_off(order.append, "put off")
        order.append("the step")
        return "its result"

    assert not lock.is_taken_here()
    assert not lock.put_off(order.append, "never")
    assert lock.step(step) == "its result"
    assert order == ["the step", "put off"]
    assert lock.step(len, order) == 2


def test_what_is_put_off_runs_after_a_step_that_fails() -> None:
    lock = StepLock()
    order: list[str] = []

    def step() -> None:
        lock.put_off(order.append, "put off")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - its own
        lock.step(step)
    assert order == ["put off"]


def test_a_thread_does_what_it_has_put_off_itself_unless_it_was_struck() -> None:
    lock = StepLock()
    did: list[int] = []

    def strange() -> None:
        lock.pending.append((threading.get_ident(), lambda: did.append(threading.get_ident())))

    thread = threading.Thread(target=strange)
    thread.start()
    thread.join()
    lock.step(len, "")
    assert not did
    lock.catch_up(everything=True)
    assert did == [threading.get_ident()]


def test_the_lock_of_one_object_says_nothing_of_anothers() -> None:
    one, other = StepLock(), StepLock()
    assert one.step(other.step, len, "four") == 4
    assert one.step(other.is_taken_here) is False
