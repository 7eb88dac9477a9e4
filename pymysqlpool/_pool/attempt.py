"""One attempt to connect, while it has no answer.

Owns: whether it is given up, so that its caller can try again within the same deadline. Never: closes a socket; the
thread that makes the attempt asks here from time to time, and leaves by itself.
"""

from __future__ import annotations

from time import monotonic

from .backoff import NO_ANSWER_FOR
from .core import PoolCore
from .slot import CONNECTING, IN_USE, Slot

_LATELY = 1.0  # seconds; for so long an attempt that ended without an answer counts


class Attempt:
    """The attempt to connect for `slot`, which begins now."""

    __slots__ = ("_core", "_slot", "began", "given_up")

    def __init__(self, core: PoolCore, slot: Slot) -> None:
        self._core = core
        self._slot = slot
        self.began = slot.since = monotonic()
        self.given_up = False

    def is_overtaken(self) -> bool:
        """Return whether it should be given up, and note that."""
        if self._core._closed:
            self.given_up = True
        elif not self.given_up:
            self.given_up = self._core._lock.step(self._is_overtaken_locked)
        return self.given_up

    def _is_overtaken_locked(self) -> bool:
        now = monotonic()
        others = [
            slot.since or now  # it is about to begin
            for slot in self._core._ledger.slots()
            if slot.state is CONNECTING and slot is not self._slot
        ]
        return self._core._backoff.is_overtaken(self.began, others, now)


def has_no_answer(core: PoolCore, now: float) -> bool:
    """Return whether an attempt has waited for so long that the server is to blame, and no connection is lent."""
    ledger = core._ledger
    began = [slot.since for slot in ledger.slots() if slot.state is CONNECTING and slot.since]
    is_silent = now - min(began, default=now) >= NO_ANSWER_FOR or now - core._backoff.silent_at < _LATELY
    return is_silent and not ledger.count(IN_USE)
