"""Aliases on a cluster by `OPTIONS["pool"]["hosts"]`, and the router: three servers whose roles `read_only` decides.

The servers do not replicate: each has a row that names it, so what is read tells where it was read.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.cookies import SimpleCookie
from typing import Any, cast

import pymysql
import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections, models, router, transaction
from django.db.utils import ConnectionHandler
from django.http import HttpResponse
from django.test import AsyncRequestFactory, RequestFactory, override_settings

from pymysqlpool.carried_commits import CarriedCommits, CommitHeader
from pymysqlpool.cluster import Cluster
from pymysqlpool.devserver import DevServer
from pymysqlpool_django import pools
from pymysqlpool_django.carried import CarryCommitsMiddleware
from pymysqlpool_django.checks import check_options
from tests.routing.servers import account
from tests.routing.test_cluster import Trio, execute, trio

from .conftest import RunSite, database
from .test_documents import example

__all__ = ["trio"]
TABLE = "django_hosts"
ROUTER = "pymysqlpool_django.routers.PrimaryReplicaRouter"


@pytest.fixture(scope="module")
def servers(request: pytest.FixtureRequest) -> Iterator[list[DevServer]]:
    """They write binary logs, so a reply tells whether something was committed."""
    with ExitStack() as stack:
        made = []
        for number in range(1, 4):
            options = ["--log-bin", f"--server-id={number}"]
            made.append(stack.enter_context(DevServer(binary=request.config.getoption("--server"), options=options)))
            account(made[-1])
        yield made


class Thing(models.Model):
    server = models.CharField(max_length=20)
    owner = models.ForeignKey("self", models.CASCADE, null=True)

    class Meta:
        app_label = "hosts"
        db_table = TABLE


def settings(trio: Trio, **pool: Any) -> dict[str, Any]:
    """`default` is the primary of the three, `replica` one of the others."""
    one = {"hosts": trio.hosts(), "balance": "order", "size": 2, "max_size": 4, "timeout": 10, **pool}
    mine = {"HOST": "", "PORT": "", "USER": "app", "PASSWORD": "app"}
    return {
        "default": database(trio.servers[0], one, **mine),
        "replica": database(trio.servers[0], {**one, "target": "replica"}, **mine, TEST={"MIRROR": "default"}),
    }


Aliases = Callable[..., None]


@pytest.fixture
def aliases(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aliases]:
    for index in range(3):
        execute(
            trio.servers[index],
            f"CREATE OR REPLACE TABLE test.{TABLE}"
            " (id INT AUTO_INCREMENT PRIMARY KEY, server VARCHAR(20), owner_id INT)",
            f"INSERT INTO test.{TABLE} (id, server) VALUES (1, 'server {index}')",
            "COMMIT",
        )
    before = getattr(connections._connections, "default", None)

    def make(**pool: Any) -> None:
        for alias, its in ConnectionHandler(settings(trio, **pool)).settings.items():
            monkeypatch.setitem(connections.settings, alias, its)
            if hasattr(connections._connections, alias):
                del connections[alias]

    make()
    with override_settings(DATABASE_ROUTERS=[ROUTER], SECRET_KEY="a key of more than sixteen characters"):
        request_finished.send(None)
        yield make
        request_finished.send(None)
    for alias in ("default", "replica"):
        if hasattr(connections._connections, alias):
            del connections[alias]
        pools.close(alias)
    if before is not None:
        connections["default"] = before


def read() -> str:
    return str(Thing.objects.get(pk=1).server)


def cluster_of(alias: str) -> Cluster:
    pool: Any = connections[alias].pool  # type: ignore[attr-defined]
    return cast(Cluster, pool.cluster)


def test_aliases_with_the_same_hosts_share_one_cluster(aliases: Aliases, trio: Trio) -> None:
    ports = []
    for alias in ("default", "replica"):
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT @@port, @@autocommit, @@sql_auto_is_null, DATABASE()")
            port, *session = cursor.fetchone()
            assert session == [1, 0, "test"]
            ports.append(port)
    assert ports == [trio.servers[0].port, trio.servers[1].port]
    assert cluster_of("default") is cluster_of("replica")
    assert cluster_of("default").stats().in_use == 2
    connections.close_all()
    assert cluster_of("default").stats().in_use == 0
    aliases(size=3)
    for alias in ("default", "replica"):
        connections[alias].ensure_connection()
    assert cluster_of("default") is cluster_of("replica")
    assert cluster_of("default").endpoints()[0][2].size == 3


def test_aliases_share_their_cluster_when_two_threads_are_the_first(aliases: Aliases) -> None:
    found: list[Cluster] = []
    together = threading.Barrier(2)

    def first(alias: str) -> None:
        together.wait(10)
        found.append(cluster_of(alias))

    threads = [threading.Thread(target=first, args=(alias,)) for alias in ("default", "replica")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found[0] is found[1]


def test_reads_go_to_the_replica_and_writes_to_the_primary(aliases: Aliases, trio: Trio) -> None:
    assert read() == "server 1"
    made = Thing.objects.create(server="new")
    assert made._state.db == "default"
    (row,) = rows(trio, 0, "new")
    assert row == made.pk
    assert rows(trio, 1, "new") == []


def rows(trio: Trio, index: int, server: str) -> list[int]:
    with pymysql.connect(**trio.servers[index].connect_args) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT id FROM test.{TABLE} WHERE server = %s", (server,))
        return [row[0] for row in cursor.fetchall()]


@pytest.mark.parametrize(
    "write",
    [
        lambda: Thing.objects.create(server="new"),
        lambda: Thing.objects.filter(pk=99).update(server="none"),
        lambda: Thing.objects.get_or_create(pk=1),
        lambda: Thing.objects.get(pk=1).save(),
        lambda: Thing.objects.filter(pk=99).delete(),
        lambda: Thing.objects.bulk_create([Thing(server="a"), Thing(server="b")]),
        lambda: connections["default"].cursor().execute(f"INSERT INTO {TABLE} (server) VALUES ('raw')"),
    ],
    ids=["create", "update", "get_or_create", "save", "delete", "bulk_create", "raw statement"],
)
@pytest.mark.parametrize("release", ["request", "transaction"])
def test_after_a_write_a_request_reads_from_the_primary_and_the_next_from_the_replica(
    aliases: Aliases, write: Callable[[], object], release: str
) -> None:
    aliases(release=release)
    request_started.send(None, environ={})
    assert read() == "server 1"
    write()
    assert Thing.objects.filter(pk=1).get()._state.db == "default"
    connections["default"].close()
    assert Thing.objects.filter(pk=1).get()._state.db == "default", "the request is not over"
    request_finished.send(None)
    request_started.send(None, environ={})
    assert read() == "server 1"


def test_reads_inside_of_a_transaction_go_to_the_primary(aliases: Aliases) -> None:
    with transaction.atomic():
        assert read() == "server 0"
        with transaction.atomic():
            assert read() == "server 0"
    assert read() == "server 1", "nothing was written"
    transaction.set_autocommit(False)
    assert read() == "server 0"
    transaction.rollback()
    transaction.set_autocommit(True)
    assert read() == "server 1"


def test_rows_are_locked_on_the_primary(aliases: Aliases) -> None:
    assert router.db_for_read(Thing) == "replica"
    with transaction.atomic():
        assert Thing.objects.select_for_update().get(pk=1).server == "server 0"
    assert Thing.objects.select_for_update().db == "default"


def test_an_object_of_the_replica_is_saved_to_the_primary_and_read_again_from_there(aliases: Aliases) -> None:
    thing = Thing.objects.get(pk=1)
    assert thing._state.db == "replica"
    thing.save()
    assert thing._state.db == "default"
    thing.refresh_from_db()
    assert thing.server == "server 1", "the primary has it now"
    thing.owner = Thing(pk=7)
    thing.owner._state.db = "replica"
    assert router.allow_relation(thing, thing.owner)


def test_an_object_of_a_third_database_stays_there(aliases: Aliases) -> None:
    thing = Thing(pk=1)
    thing._state.db = "archive"
    assert router.db_for_read(Thing, instance=thing) == "archive"
    assert router.db_for_write(Thing, instance=thing) == "archive"
    assert not router.allow_relation(thing, Thing.objects.get(pk=1))
    assert read() == "server 1", "that was no write here"


def test_migrations_run_on_the_primary_only(aliases: Aliases) -> None:
    assert router.allow_migrate("default", "hosts")
    assert not router.allow_migrate("replica", "hosts")
    assert router.allow_migrate("archive", "hosts")


def test_outside_of_requests_a_unit_of_work_ends_when_django_closes_the_alias(aliases: Aliases) -> None:
    Thing.objects.create(server="new")
    assert router.db_for_read(Thing) == "default"
    close_old_connections()
    assert router.db_for_read(Thing) == "replica"
    aliases(release="transaction")
    Thing.objects.create(server="new")
    assert router.db_for_read(Thing) == "default"
    close_old_connections()
    assert router.db_for_read(Thing) == "replica"


def write_raw() -> None:
    connections["default"].cursor().execute(f"INSERT INTO {TABLE} (server) VALUES ('raw')")


@pytest.mark.parametrize("write", [lambda: Thing.objects.create(server="new"), write_raw], ids=["ORM", "raw statement"])
def test_under_asgi_a_write_is_known_in_every_thread_of_its_request_and_in_no_other(
    aliases: Aliases, write: Callable[[], object]
) -> None:
    def close() -> None:
        connections.close_all()

    async def request(writes: bool) -> list[str]:
        async with ThreadSensitiveContext():
            if writes:
                await sync_to_async(write)()
            found = [
                (await Thing.objects.aget(pk=1)).server,
                await sync_to_async(read, thread_sensitive=False)(),
                await asyncio.create_task(sync_to_async(read)()),
            ]
            await sync_to_async(close)()
            return found

    async def both() -> list[list[str]]:
        return list(await asyncio.gather(request(True), request(False)))

    assert asyncio.run(both()) == [["server 0"] * 3, ["server 1"] * 3]


class Visitor:
    """Requests of one visitor to a site with the middleware; the cookies of the answers are sent again."""

    def __init__(self, *, runs_async: bool = False, middleware: type[Any] = CarryCommitsMiddleware) -> None:
        self.cookies = SimpleCookie()
        self._runs_async = runs_async
        self._middleware = middleware

    def visit(self, view: Callable[[], str]) -> str:
        factory: Any = AsyncRequestFactory() if self._runs_async else RequestFactory()
        factory.cookies.update(self.cookies)
        if self._runs_async:
            answer = asyncio.run(self._visit(view, factory.get("/")))
        else:
            request_started.send(None, environ={})
            site = self._middleware(lambda request: HttpResponse(view()))
            answer = site(factory.get("/"))  # type: ignore[assignment]
            request_finished.send(None)
        self.cookies.update(answer.cookies)
        return answer.content.decode()

    async def _visit(self, view: Callable[[], str], request: Any) -> HttpResponse:
        async def served(request: Any) -> HttpResponse:
            return HttpResponse(await sync_to_async(view)())

        async with ThreadSensitiveContext():
            answer: HttpResponse = await self._middleware(served)(request)  # type: ignore[misc]
            await sync_to_async(connections.close_all)()
            return answer


def write() -> str:
    Thing.objects.create(server="new")
    return "written"


@pytest.mark.parametrize("runs_async", [False, True], ids=["WSGI", "ASGI"])
@pytest.mark.parametrize("release", ["request", "transaction"])
def test_a_visitor_reads_what_an_earlier_request_has_written_and_others_the_replica(
    aliases: Aliases, runs_async: bool, release: str
) -> None:
    """These servers do not replicate, so the replica never has what was written."""
    aliases(release=release)
    visitor, other = Visitor(runs_async=runs_async), Visitor(runs_async=runs_async)
    assert visitor.visit(read) == "server 1"
    assert not visitor.cookies, "nothing was written"
    assert visitor.visit(write) == "written"
    (cookie,) = visitor.cookies.values()
    assert (cookie["httponly"], cookie["secure"], cookie["samesite"], cookie["path"]) == (True, "", "Lax", "/")
    assert [visitor.visit(read), visitor.visit(read)] == ["server 0", "server 0"]
    assert other.visit(read) == "server 1"
    with override_settings(SECRET_KEY="another secret key, after a change", SECRET_KEY_FALLBACKS=[]):
        assert visitor.visit(read) == "server 1"


@pytest.mark.parametrize("said", ["strict", "Strict", False])
def test_the_position_has_the_session_cookies_same_site_as_django_takes_it(said: Any) -> None:
    with override_settings(SECRET_KEY="a key of more than sixteen characters", SESSION_COOKIE_SAMESITE=said):
        _, cookie = CarryCommitsMiddleware(lambda request: HttpResponse()).carrier().header("shop", "token")
    assert f"SameSite={'Strict' if said else 'Lax'}" in cookie


def test_a_client_of_an_api_gets_the_position_in_a_header(aliases: Aliases) -> None:
    class ForTheApi(CarryCommitsMiddleware):
        def carrier(self) -> CarriedCommits:
            return CommitHeader("a key of more than sixteen characters")

    request_started.send(None, environ={})
    answer: Any = ForTheApi(lambda request: HttpResponse(write()))(RequestFactory().get("/"))
    request_finished.send(None)
    request_started.send(None, environ={})
    headers = {"X-Commit-Position": answer["X-Commit-Position"]}
    answer = ForTheApi(lambda request: HttpResponse(read()))(RequestFactory(headers=headers).get("/"))
    assert answer.content == b"server 0"


def test_carried_commits_need_a_cluster_and_a_key(aliases: Aliases, monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(SECRET_KEY="short"), pytest.raises(ImproperlyConfigured, match="at least 16"):
        CarryCommitsMiddleware(lambda request: HttpResponse())

    class OfAnother(CarryCommitsMiddleware):
        primary = "archive"

    sqlite = {"ENGINE": "django.db.backends.sqlite3"}
    archive = ConnectionHandler({"default": {}, "archive": sqlite}).settings["archive"]
    monkeypatch.setitem(connections.settings, "archive", archive)
    with pytest.raises(ImproperlyConfigured, match=r"DATABASES\['archive'\]"):
        OfAnother(lambda request: HttpResponse())(RequestFactory().get("/"))
    del connections["archive"]


def test_the_writes_follow_the_primary(aliases: Aliases, trio: Trio) -> None:
    Thing.objects.create(server="before")
    connections.close_all()
    trio.role(0, writable=False)
    trio.role(2, writable=True)
    with pytest.raises(Exception, match="read-only"):
        Thing.objects.create(server="refused")
    connections.close_all()
    Thing.objects.create(server="after")
    assert rows(trio, 2, "after")
    connections.close_all()
    assert read() in ("server 0", "server 1")


def test_a_test_run_makes_one_database_and_reads_it_by_both_aliases(trio: Trio, run_site: RunSite) -> None:
    for server in trio.servers:
        execute(server, "GRANT ALL ON *.* TO app", "REVOKE SUPER, READ_ONLY ADMIN ON *.* FROM app")
    code = """
from django.test import Client, TestCase, TransactionTestCase
from django.test.runner import DiscoverRunner

def reads(case):
    from django.contrib.auth.models import Group
    from django.db import connections
    Group.objects.create(name="a")
    names = ["test_test"] * 2
    case.assertEqual([connections[alias].settings_dict["NAME"] for alias in ("default", "replica")], names)
    case.assertEqual(Group.objects.using(case.reader).get().name, "a")
    case.assertEqual(Group.objects.get().name, "a")

class Committed(TransactionTestCase):
    databases = {"default", "replica"}
    reader = "replica"
    def test_it(self):
        reads(self)

class InTransaction(TestCase):
    reader = "default"
    def test_it(self):
        reads(self)

def main():
    runner = DiscoverRunner(verbosity=0, interactive=False)
    found = runner.run_tests(["site_code"])
    report(found)
"""
    apps = ["django.contrib.contenttypes", "django.contrib.auth", "pymysqlpool_django"]
    assert run_site(code, settings(trio), INSTALLED_APPS=apps, DATABASE_ROUTERS=[ROUTER]) == 0


@pytest.mark.parametrize(
    ("pool", "changes", "said"),
    [
        ({"hosts": ["db1"]}, {"HOST": "db1"}, "HOST or PORT stands beside it"),
        ({"hosts": []}, {}, "hosts"),
        ({"hosts": ["db1"], "target": "primry"}, {}, "primry"),
        ({"hosts": ["db1"], "balance": "fair"}, {}, "balance='fair'"),
        ({"hosts": ["db1"], "role": "any"}, {}, "role='any'"),
        ({"target": "replica"}, {}, "target, which needs hosts"),
        ({"zone": "a"}, {}, "zone, which needs hosts"),
    ],
)
def test_what_cannot_be_is_refused_by_the_check_and_at_the_first_use(
    trio: Trio, monkeypatch: pytest.MonkeyPatch, pool: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    wrong = database(trio.servers[0], pool, **{"HOST": "", "PORT": "", **changes})
    monkeypatch.setitem(
        connections.settings, "wrong", ConnectionHandler({"default": {}, "wrong": wrong}).settings["wrong"]
    )
    try:
        (found,) = [one for one in check_options() if "wrong" in one.msg]
        assert found.id == "pymysqlpool.E001"
        assert said in found.msg
        with pytest.raises(ImproperlyConfigured, match=said):
            connections["wrong"].ensure_connection()
    finally:
        del connections["wrong"]


def test_the_example_of_the_documentation_runs(trio: Trio, run_site: RunSite) -> None:
    shown = example('PrimaryReplicaRouter"]')
    databases = shown["DATABASES"]
    for alias in databases.values():
        alias.update({"USER": "app", "PASSWORD": "app", "NAME": "test"})
        alias["OPTIONS"]["pool"]["hosts"] = trio.hosts()
        alias["OPTIONS"]["ssl_disabled"] = True
    code = """
def main():
    from django.contrib.auth.models import Group
    from django.core.management import call_command
    from django.db import connections
    call_command("check", database=["default", "replica"])
    call_command("migrate", verbosity=0)
    call_command("poolstatus")
    connections.close_all()
    try:
        Group.objects.exists()  # nothing copies the tables here
        found = "read from the primary"
    except Exception as error:
        found = str(error)
    Group.objects.create(name="b")
    report([found, Group.objects.count(), connections["default"].pool.cluster is connections["replica"].pool.cluster])
"""
    apps = ["django.contrib.contenttypes", "django.contrib.auth", "pymysqlpool_django"]
    found, groups, is_shared = run_site(
        code, databases, INSTALLED_APPS=apps, DATABASE_ROUTERS=shown["DATABASE_ROUTERS"]
    )
    assert "doesn't exist" in found
    assert (groups, is_shared) == (1, True)
    router = example("class Router")["Router"]()
    assert router.db_for_read(type("Session", (), {"_meta": type("Meta", (), {"app_label": "sessions"})})) == "default"
    assert router.db_for_read(Thing) == "replica"


def test_a_shell_and_a_dump_get_one_host(aliases: Aliases, trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr("subprocess.run", lambda args, **_: ran.append(args))
    for alias in ("default", "replica"):
        connections[alias].client.runshell([])
        assert connections[alias].settings_dict["HOST"] == ""
    assert [f"--port={trio.servers[index].port}" in command for index, command in enumerate(ran)] == [True, True]
