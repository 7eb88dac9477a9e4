"""A view for health checks, `db.health()`: busy is ready, down is not (behaviour 50)."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from flask import g

from pymysqlpool.devserver import DevServer
from tests.support import wait_until

from .conftest import MakeSite, Site, ask


@pytest.fixture
def make_checked(make_site: MakeSite) -> MakeSite:
    def make(**options: Any) -> Site:
        site = make_site(**options)

        @site.app.get("/ready")
        def ready() -> Any:
            health = site.db.health()
            return health.as_json(), health.status

        site.app.add_url_rule("/live", "live", lambda: "alive")
        site.app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))
        return site

    return make


def test_liveness_and_readiness_answer_at_once_while_visitors_wait(make_checked: MakeSite) -> None:
    """50: the check stands in no queue and takes nothing."""
    site = make_checked(size=1, maxsize=1, timeout=10)
    with site.pool.get_connection():
        visitor = threading.Thread(target=site.client.get, args=("/",))
        visitor.start()
        wait_until(lambda: site.pool.stats().waiting == 1, "a visitor waits")
        before, started = site.pool.stats(), time.monotonic()
        assert [site.client.get(path).status_code for path in ("/live", "/ready")] == [200, 200]
        assert time.monotonic() - started < 2
        now = site.pool.stats()
        assert (now.borrowed, now.waits, now.waiting) == (before.borrowed, before.waits, 1)
    visitor.join(10)


def test_a_database_that_is_down_is_503_within_the_checks_own_timeout_and_ready_when_it_is_back(
    make_checked: MakeSite,
) -> None:
    """50: not after the pool's 30 seconds. Liveness never asks."""
    with DevServer() as server:
        site = make_checked(**server.connect_args, timeout=30)
        assert site.client.get("/ready").status_code == 200
        assert site.pool.stats().created == 0
        server.kill()
        wait_until(lambda: site.client.get("/ready").status_code == 503, "not ready", timeout=15)
        started = time.monotonic()
        assert site.client.get("/ready").status_code == 503
        assert time.monotonic() - started < 3
        assert site.client.get("/live").status_code == 200
        server.start()
        wait_until(lambda: site.client.get("/ready").status_code == 200, "ready again", timeout=15)


def test_each_database_has_a_health_of_its_own(make_site: MakeSite, connect_args: dict[str, Any]) -> None:
    site = make_site({"PYMYSQLPOOL_BINDS": {"far": {**connect_args, "port": 1}}})
    with site.app.app_context():
        assert [site.db.health(bind).ready for bind in (None, "far")] == [True, False]
        site.db.get_pool("far").close()
