"""The board on a Galera cluster of three nodes: one is killed while visitors come, and what they see of it.

    python -m example_apps.flask_app.cluster        (or scripts/demo cluster)

Owns: the story. It ends by itself within `LONGEST` seconds and leaves no process and no folder behind. The only change
to the board is its configuration: `"hosts": [...]` in place of `"host"`.
"""

from __future__ import annotations

import http.client
import logging
import signal
import sys
import threading
from collections import Counter
from contextlib import ExitStack
from time import monotonic
from typing import cast

import pymysql

from pymysqlpool import ConnectionPool
from pymysqlpool.cluster import Cluster
from pymysqlpool.devserver import DevServerError
from tests.routing.servers import APP, NODES, Galera, ask, provider
from tests.support import wait_until

from . import data
from .app import create_app
from .demo import HOST, serving

LONGEST = 180  # seconds for all of it
VISITORS = 12
EVERY = 0.02  # seconds between two requests of a visitor
SIZE = 8  # connections to each node, at most
NOTICE = 1  # which the visitors thank for


class Visitors:
    """They say thank you for a notice, one request after the other, and remember the answers."""

    def __init__(self, port: int) -> None:
        self.answers: Counter[str] = Counter()
        self.thanked = 0  # answers that say that it was written
        self.longest = 0.0  # seconds that a visitor waited for an answer
        self._told: set[str] = set()  # the kinds of answers in what was told
        self._port = port
        self._ends = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._visit, daemon=True) for _ in range(VISITORS)]

    def _visit(self) -> None:
        while not self._ends.wait(EVERY):
            began = monotonic()
            connection = http.client.HTTPConnection(HOST, self._port, timeout=30)
            try:
                connection.request("POST", f"/notice/{NOTICE}/thanks")
                answer = connection.getresponse()
                answer.read()
                said = f"{answer.status} {answer.reason}"
                if answer.status == 503:
                    said += f", Retry-After: {answer.getheader('Retry-After')}"
            except OSError as error:
                said = repr(error)
            finally:
                connection.close()
            with self._lock:
                self.answers[said] += 1
                self.thanked += said.startswith("302")
                self.longest = max(self.longest, monotonic() - began)

    def see(self, what: str, number: int = 300) -> None:
        """Wait until so many more were served, and tell what the visitors saw since the last telling."""
        wanted = self.thanked + number
        wait_until(lambda: self.thanked >= wanted, what, 60)
        with self._lock:
            seen = ", ".join(f"{number} x {said}" for said, number in self.answers.most_common())
            print(f"   visitors saw: {seen}; the longest wait was {self.longest:.2f} s", flush=True)
            self._told |= self.answers.keys()
            self.answers.clear()
            self.longest = 0.0

    def were_asked_back(self) -> bool:
        """Whether each visitor who was not served was told when to come back."""
        refused = {said for said in self._told | self.answers.keys() if not said.startswith("302")}
        return all(said.startswith("503") and not said.endswith("None") for said in refused)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(30)


class Changes(logging.Handler):
    """Of the pool's log, what it says about the hosts."""

    def emit(self, record: logging.LogRecord) -> None:
        if (state := getattr(record, "state", None)) is not None:
            print(f"   the pool's log: {record.__dict__['endpoint']} is {state}", flush=True)


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, _end)
    signal.alarm(LONGEST)
    for name in ("waitress", "example_apps"):  # a line for each 503, which the visitors count
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if provider() is None:
        print("error: there is no Galera library (Debian: apt-get install galera-4)", file=sys.stderr)
        return 1
    try:
        with ExitStack() as stack:
            return 0 if _tour(stack) else 1
    except KeyboardInterrupt:
        return 130
    except (DevServerError, OSError, AssertionError, pymysql.err.MySQLError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _tour(stack: ExitStack) -> bool:
    print("1. Three Galera nodes start on this machine", flush=True)
    began = monotonic()
    nodes = Galera(stack, None)
    for node in nodes.servers:
        print(f"   {node.host}:{node.port}, process {node.pid}")
    print(f"   they are one cluster after {monotonic() - began:.0f} s")

    config = {**APP, "hosts": nodes.hosts(), "size": SIZE, "maxsize": SIZE, "read_timeout": 10}
    app = create_app({"PYMYSQLPOOL": config})
    with Cluster(nodes.hosts(), size=1, **APP) as cluster:
        print(f'2. The notice board opens with PYMYSQLPOOL = {{"hosts": [...]}}: {_load(cluster):,} rows on each node')
        before = _thanks(nodes, 0)
    log = logging.getLogger("pymysqlpool")
    log.addHandler(Changes())
    log.setLevel(logging.INFO)
    log.propagate = False
    port = stack.enter_context(serving(app, None))
    visitors = Visitors(port)
    visitors.start()
    try:
        print(f"   it answers at http://{HOST}:{port}/; {VISITORS} visitors come, each {1 / EVERY:.0f} times a second")
        visitors.see("visitors are served")

        print(f"3. The node that takes the writes is killed (kill -9 {nodes.servers[0].pid})")
        nodes.servers[0].kill()
        visitors.see("visitors are served by another node")

        print("4. It comes back, and fetches what it missed")
        nodes.rejoin(0)
        nodes.wait_for(NODES)
        visitors.see("visitors are served by three nodes")
    finally:
        visitors.end()

    wait_until(lambda: len({_thanks(nodes, index) for index in range(NODES)}) == 1, "the nodes agree", 30)
    counted = _thanks(nodes, 0) - before
    print(f"5. {visitors.thanked} times the board said that a thank-you was written; each node has {counted}")
    kept = counted >= visitors.thanked  # it may be more: of a COMMIT in flight on the killed node
    print("   nothing that was acknowledged is lost" if kept else "   SOMETHING THAT WAS ACKNOWLEDGED IS LOST")
    asked_back = visitors.were_asked_back()
    print("   all others were asked to come back" if asked_back else "   SOME SAW ANOTHER ERROR THAN 503")
    return kept and asked_back


def _load(cluster: Cluster) -> int:
    return data.load(cast(ConnectionPool, cluster.primary))


def _thanks(nodes: Galera, index: int) -> int:
    return int(ask(nodes.servers[index], f"SELECT thanks FROM test.notice WHERE id = {NOTICE}")[0]["thanks"])


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
