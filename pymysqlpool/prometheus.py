"""Prometheus: a collector for `prometheus_client`, for one process or several.

    from prometheus_client import REGISTRY
    from pymysqlpool.prometheus import PoolCollector

    REGISTRY.register(PoolCollector())

With several workers of gunicorn or uWSGI, one worker answers a scrape. The collector then reports the numbers of all
workers: each worker writes its numbers into a shared folder once a second (`PROMETHEUS_MULTIPROC_DIR` if that is set),
and the answering worker adds them up. Counts of a worker that has ended are kept.

Needs `prometheus-client` (`pip install pymysqlpool-web[prometheus]`). Names follow OpenTelemetry's
`db.client.connection.*`, as its Prometheus exporters spell them. Labels hold neither users nor paths.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from ._observe.board import all_processes, board
from ._observe.serving import Answer, serve_asgi, serve_wsgi
from .metrics import BOUNDS

_GAUGES = {
    "idle": ("db_client_connection_count", "Connections by state.", "idle"),
    "in_use": ("db_client_connection_count", "Connections by state.", "used"),
    "maxsize": ("db_client_connection_max", "Connections that the pools may have at most.", None),
    "size": ("db_client_connection_idle_min", "Connections that a pool keeps.", None),
    "waiting": ("db_client_connection_pending_requests", "Callers that wait for a connection.", None),
}
_COUNTERS = {
    "timeouts": ("db_client_connection_timeouts", "Calls that got no connection in time."),
    "borrowed": ("pymysqlpool_borrowed", "Connections lent."),
    "created": ("pymysqlpool_created", "Connections made."),
    "reset": ("pymysqlpool_reset", "Sessions cleaned at their return."),
    "rejected": ("pymysqlpool_rejected", "Calls refused by max_waiting."),
    "connect_errors": ("pymysqlpool_connect_errors", "Attempts to connect that failed."),
    "leaked": ("pymysqlpool_leaked", "Leases that were never given back."),
}
_HISTOGRAMS = {
    "wait": ("db_client_connection_wait_time_seconds", "How long calls waited that had to wait."),
    "use": ("db_client_connection_use_time_seconds", "From a borrow to its return."),
    "create": ("db_client_connection_create_time_seconds", "How long connecting took."),
}
_POOL = "db_client_connection_pool_name"
_STATE = "db_client_connection_state"


class PoolCollector:
    """The metrics of the pools of this process, or of all processes that share a folder.

    Args:
        folder: the shared folder; default: PYMYSQLPOOL_BOARD in the environment, else the folder `pymysqlpool` in
            PROMETHEUS_MULTIPROC_DIR. Without any of these the collector shows the answering process only.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self._folder = folder
        if (shared := board(folder)) is not None:
            shared.publish()

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering the collector reads no pool."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Return the metrics at this moment."""
        totals = _added_up(all_processes(self._folder))
        for name, (metric, says, state) in _GAUGES.items():
            if state == "used":
                continue  # shown with the idle ones
            family = GaugeMetricFamily(metric, says, labels=[_POOL, _STATE] if state else [_POOL])
            for label, numbers in totals.items():
                if state:
                    family.add_metric([label, "idle"], numbers["idle"])
                    family.add_metric([label, "used"], numbers["in_use"])
                else:
                    family.add_metric([label], numbers[name])
            yield family
        for name, (metric, says) in _COUNTERS.items():
            counter = CounterMetricFamily(metric, says, labels=[_POOL])
            for label, numbers in totals.items():
                counter.add_metric([label], numbers[name])
            yield counter
        reasons = CounterMetricFamily(
            "pymysqlpool_discarded", "Connections closed, by reason.", labels=[_POOL, "reason"]
        )
        for label, numbers in totals.items():
            for reason, number in sorted(numbers["discarded"].items()):
                reasons.add_metric([label, reason], number)
        yield reasons
        for name, (metric, says) in _HISTOGRAMS.items():
            histogram = HistogramMetricFamily(metric, says, labels=[_POOL])
            for label, numbers in totals.items():
                histogram.add_metric([label], _buckets(numbers[name]["counts"]), numbers[name]["sum"])
            yield histogram


def metrics_page(folder: str | os.PathLike[str] | None = None) -> Answer:
    """Return content type and body of a page that Prometheus can scrape, with the pools' metrics only.

    Args:
        folder: as for `PoolCollector`.
    """
    registry = CollectorRegistry()
    registry.register(PoolCollector(folder))
    return CONTENT_TYPE_LATEST, generate_latest(registry)


def wsgi_app(folder: str | os.PathLike[str] | None = None) -> Any:
    """Return `metrics_page` as a WSGI application; mount it at /metrics."""
    PoolCollector(folder)  # publishes from now on
    return serve_wsgi(lambda: metrics_page(folder))


def asgi_app(folder: str | os.PathLike[str] | None = None) -> Any:
    """Return `metrics_page` as an ASGI application; mount it at /metrics."""
    PoolCollector(folder)  # publishes from now on
    return serve_asgi(lambda: metrics_page(folder))


def _added_up(processes: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the sums over `processes` by label. A process that has ended contributes its counts, not its gauges."""
    totals: dict[str, dict[str, Any]] = {}
    for process in processes:
        alive = process["alive"]
        for numbers in process["pools"]:
            total = totals.setdefault(numbers["label"], _nothing())
            for name in _COUNTERS:
                total[name] += numbers[name]
            for reason, number in numbers["discarded"].items():
                total["discarded"][reason] = total["discarded"].get(reason, 0) + number
            for name in _HISTOGRAMS:
                more = numbers[name]
                total[name]["sum"] += more["sum"]
                total[name]["counts"] = [a + b for a, b in zip(total[name]["counts"], more["counts"], strict=True)]
            if alive:
                for name in _GAUGES:
                    total[name] += numbers[name]
    return totals


def _nothing() -> dict[str, Any]:
    numbers: dict[str, Any] = dict.fromkeys([*_GAUGES, *_COUNTERS], 0)
    numbers["discarded"] = {}
    for name in _HISTOGRAMS:
        numbers[name] = {"counts": [0] * (len(BOUNDS) + 1), "sum": 0.0}
    return numbers


def _buckets(counts: list[int]) -> list[tuple[str, float]]:
    """Return Prometheus' cumulative buckets."""
    buckets = []
    so_far = 0
    for bound, number in zip([*map(str, BOUNDS), "+Inf"], counts, strict=True):
        so_far += number
        buckets.append((bound, float(so_far)))
    return buckets
