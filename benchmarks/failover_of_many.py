"""What a failover costs the servers when many processes see it: a simulation of the pure decision, without a server.

    python benchmarks/failover_of_many.py

1,250 processes with 8 callers each (10,000 clients) know three hosts. The primary dies; a replica is promoted two
seconds later. Counted: how often each host is asked what it is, and when the last process writes again.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from pymysqlpool._routing.endpoints import Answer, Ask, Endpoint, Use
from pymysqlpool._routing.topology import Topology

PROCESSES = 1250
TICK = 0.01  # seconds between two looks of a process with waiting callers
DIES_AT, PROMOTED_AT, ENDS_AT = 1.0, 3.0, 6.0


def failover(processes: int) -> tuple[Counter[tuple[str, int]], float]:
    """How often each host was asked in each second, and when the last process wrote again, in seconds after the
    promotion."""
    random = Random(1)
    fleet = []
    for _ in range(processes):
        hosts = [Endpoint(name) for name in ("primary", "promoted", "other")]
        fleet.append(Topology(hosts, random=random.random))
    asked: Counter[tuple[str, int]] = Counter()
    last = 0.0
    for tick in range(int(ENDS_AT / TICK)):
        now = tick * TICK
        for topology in fleet:
            if topology.primary == 0 and now >= DIES_AT:
                topology.suspect(0, now, "a connection broke")
            while isinstance(decision := topology.decide("primary", now, lambda _: 0), Ask):
                host = decision.endpoint
                topology.asking(host)
                asked[topology.endpoints[host].name, int(now)] += 1
                if host == 0 and now >= DIES_AT:
                    topology.failed(host, now, "refused")
                else:
                    writable = host == 0 or (host == 1 and now >= PROMOTED_AT)
                    topology.answered(host, now, Answer(writable=writable))
            if now >= PROMOTED_AT and not isinstance(decision, Use):
                last = now
    return asked, last + TICK - PROMOTED_AT


def main() -> None:
    asked, last = failover(PROCESSES)
    for second in range(int(ENDS_AT)):
        said = ", ".join(f"{name} {asked[name, second]:,}" for name in ("primary", "promoted", "other"))
        print(f"second {second}: asked {said}")
    print(f"the last of {PROCESSES:,} processes writes again {last:.2f} s after the promotion")


if __name__ == "__main__":
    main()
