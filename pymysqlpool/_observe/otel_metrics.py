"""The numbers of this process's pools as OpenTelemetry metrics, by the semantic conventions:
https://opentelemetry.io/docs/specs/semconv/database/database-metrics/

Gauges and counters are observed when a reader collects. OpenTelemetry has no observable histogram, so each collection
records the values that the pools of a label have counted since the last one, those that have ended meanwhile included:
as many values as were counted, each inside its bucket, with the measured sum. A returning thread pays nothing, the
reader's thread about 10 us for each value.

Never: counts anything itself, records a value twice.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from ..metrics import BOUNDS, Histogram, PoolStats, pools
from ..pool import ConnectionPool
from .process import counts, follow

POOL = "db.client.connection.pool.name"
_STATE = "db.client.connection.state"

_GAUGES: tuple[tuple[str, str, str, Callable[[PoolStats], int]], ...] = (
    ("idle.max", "{connection}", "Idle connections that a pool may have at most.", lambda now: now.maxsize),
    ("idle.min", "{connection}", "Connections that a pool keeps.", lambda now: now.size),
    ("max", "{connection}", "Connections that a pool may have at most.", lambda now: now.maxsize),
    ("pending_requests", "{request}", "Callers that wait for a connection.", lambda now: now.waiting),
)
_HISTOGRAMS = {
    "create": ("create_time", "How long connecting took."),
    "wait": ("wait_time", "How long calls waited that had to wait."),
    "use": ("use_time", "From a borrow to its return."),
}


class ConnectionMetrics:
    """The nine `db.client.connection.*` metrics of all pools of this process, and the duration of statements.

    Args:
        meter_provider: where they go; None: OpenTelemetry's global one.
    """

    def __init__(self, meter_provider: Any) -> None:
        meter = metrics.get_meter("pymysqlpool", meter_provider=meter_provider)
        self.is_on = True
        self.duration = meter.create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Duration of statements.",
            explicit_bucket_boundaries_advisory=BOUNDS,
        )
        self._start_counting()
        self._histograms = {
            name: meter.create_histogram(
                f"db.client.connection.{its}", unit="s", description=says, explicit_bucket_boundaries_advisory=BOUNDS
            )
            for name, (its, says) in _HISTOGRAMS.items()
        }
        follow()
        for name, unit, says, number in _GAUGES:
            meter.create_observable_up_down_counter(
                f"db.client.connection.{name}", [self._observed(number)], unit=unit, description=says
            )
        meter.create_observable_counter(
            "db.client.connection.timeouts",
            [self._timeouts],
            unit="{timeout}",
            description="Calls that got no connection in time.",
        )
        meter.create_observable_up_down_counter(
            "db.client.connection.count", [self._count], unit="{connection}", description="Connections by state."
        )

    def _start_counting(self) -> None:
        """A forked child counts from zero, and a reader of its parent may have held the lock."""
        self._pid = os.getpid()
        self._recorded: dict[tuple[str, str], Histogram] = {}  # by label and name
        self._records = threading.Lock()  # never waited for; several readers may collect at once

    def _observed(self, number: Callable[[PoolStats], int]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def callback(options: CallbackOptions) -> Iterator[Observation]:
            for label, several in self._by_label().items():
                yield Observation(sum(number(pool.stats()) for pool in several), {POOL: label})

        return callback

    def _count(self, options: CallbackOptions) -> Iterator[Observation]:
        for label, several in self._by_label().items():
            numbers = [pool.stats() for pool in several]
            yield Observation(sum(now.idle for now in numbers), {POOL: label, _STATE: "idle"})
            yield Observation(sum(now.in_use for now in numbers), {POOL: label, _STATE: "used"})
        if self._pid != os.getpid():
            self._start_counting()
        if self.is_on and self._records.acquire(blocking=False):
            try:
                self._record_news()
            finally:
                self._records.release()

    def _timeouts(self, options: CallbackOptions) -> Iterator[Observation]:
        for label, numbers in counts().items() if self.is_on else ():
            yield Observation(numbers["timeouts"], {POOL: label})

    def _record_news(self) -> None:
        for label, numbers in counts().items():
            for name, instrument in self._histograms.items():
                before = self._recorded.get((label, name), Histogram())
                after = Histogram(tuple(numbers[name]["counts"]), numbers[name]["sum"])
                self._recorded[label, name] = after
                for value, times in values_between(before, after):
                    for _ in range(times):
                        instrument.record(value, {POOL: label})

    def _by_label(self) -> dict[str, list[ConnectionPool]]:
        found: dict[str, list[ConnectionPool]] = {}
        if self.is_on:
            for pool in pools():
                found.setdefault(pool.label, []).append(pool)
        return found


def values_between(before: Histogram, after: Histogram) -> list[tuple[float, int]]:
    """What was counted between two looks: a value for each bucket, and how many of it. The values are in their buckets,
    and add up to the seconds between the two where the buckets allow it."""
    counts = [new - old for new, old in zip(after.counts, before.counts, strict=True)]
    seconds = after.sum - before.sum
    lows = (0.0, *BOUNDS)
    least = sum(low * number for low, number in zip(lows, counts, strict=True))
    room = sum((high - low) * number for low, high, number in zip(lows, BOUNDS, counts[:-1], strict=False))
    endless = counts[-1]
    share = 0.5 if endless else (seconds - least) / room if room else 0.0
    share = min(max(share, 0.001), 1.0)  # a bucket does not hold its lower bound
    values = [(low + share * (high - low), number) for low, high, number in zip(lows, BOUNDS, counts, strict=False)]
    if endless:
        rest = seconds - sum(value * number for value, number in values)
        values.append((max(rest / endless, BOUNDS[-1] * 1.001), endless))
    return [(value, number) for value, number in values if number > 0]
