"""A failover that many processes see, as docs/design/scale.md tells it: the decision alone, without a server."""

from __future__ import annotations

from benchmarks.failover_of_many import failover

PROCESSES = 20


def test_a_failover_asks_each_host_a_bounded_number_of_times_per_process() -> None:
    asked, last = failover(PROCESSES)
    assert max(asked[host, 0] for host in ("primary", "promoted", "other")) == PROCESSES, "once each, at the beginning"
    assert asked["primary", 1] <= 6 * PROCESSES, "a dead host is asked with a back-off"
    assert asked["primary", 2] <= 2 * PROCESSES
    assert max(asked[host, second] for host in ("promoted", "other") for second in (1, 2)) <= 20 * PROCESSES
    assert sum(asked[host, second] for host in ("primary", "other") for second in (4, 5)) == 0, "nothing is left to ask"
    assert last <= 0.06, "seconds after the promotion"
