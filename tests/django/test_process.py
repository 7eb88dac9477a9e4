"""Fork, exit, and test databases (must-handle 20 to 22, 24 to 26)."""

from __future__ import annotations

from typing import Any

import pytest

from pymysqlpool.devserver import DevServer
from pymysqlpool_django import pools
from tests.support import wait_until

from .conftest import Connect, RunSite, database
from .test_identity import ask

FORK = """
import os

def ask(question):
    from django.db import connection
    with connection.cursor() as cursor:
        cursor.execute(question)
        return cursor.fetchone()[0]

def in_child(work):
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(write, json.dumps(work()).encode())
        except BaseException as error:
            os.write(write, json.dumps(repr(error)).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with open(read) as told:
        return json.loads(told.read())

def main():
    from django.db import connection, connections
    from pymysqlpool_django import pools

    def plain():
        return ask("SELECT CONNECTION_ID()")

    def close_all():
        connections.close_all()
        return ask("SELECT CONNECTION_ID()")

    def celery():
        connection.close_pool()
        value = ask("SELECT CONNECTION_ID()")
        connection.close()
        connection.close_pool()
        return value

    mine = ask("SELECT CONNECTION_ID()")
    children = [in_child(work) for work in (plain, close_all, celery)]
    still_mine = ask("SELECT CONNECTION_ID()")
    connection.close()
    with_idle = in_child(plain)
    again = ask("SELECT CONNECTION_ID()")
    report([mine, still_mine, again, *children, with_idle, in_child(lambda: len(pools.stats()))])
"""


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_shares_nothing_and_needs_no_hook(run_site: RunSite, server: DevServer) -> None:
    mine, still_mine, again, *children, pools_in_child = run_site(FORK, {"default": database(server)})
    assert mine == still_mine == again, "the parent keeps its session"
    assert all(isinstance(child, int) for child in children), children
    assert len({mine, *children}) == 5, "each child has a session of its own"
    assert pools_in_child == 0


AT_EXIT = """
def main():
    from django.db import connection
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        session = cursor.fetchone()[0]
    connection.close()
    report(session)
"""


def test_idle_connections_end_in_order_when_the_process_does(run_site: RunSite, server: DevServer, admin: Any) -> None:
    with admin.cursor() as cursor:

        def aborted() -> int:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Aborted_clients'")
            return int(cursor.fetchone()[1])

        before = aborted()
        session = run_site(AT_EXIT, {"default": database(server)})
        gone = "SELECT COUNT(*) FROM information_schema.processlist WHERE id = %s"
        wait_until(lambda: cursor.execute(gone, [session]) and cursor.fetchone() == (0,), "the session ends")
        assert aborted() == before, "the server saw a connection break instead of COM_QUIT"


@pytest.mark.parametrize("keepdb", [False, True])
def test_a_pool_opened_before_never_serves_the_production_database_to_tests(
    connect: Connect, alias: str, admin: Any, keepdb: bool
) -> None:
    wrapper = connect(TEST={"NAME": f"test_{alias}"})
    assert ask(wrapper, "SELECT DATABASE()") == "test"
    wrapper.close()
    from django.db import connections

    connections[alias] = wrapper
    connections.settings[alias] = wrapper.settings_dict
    connections.databases[alias] = wrapper.settings_dict
    try:
        wrapper.creation.create_test_db(verbosity=0, keepdb=keepdb)
        assert ask(wrapper, "SELECT DATABASE()") == f"test_{alias}"
        assert {one.name for one in pools.stats()[alias]} == {alias}
        wrapper.creation.destroy_test_db("test", verbosity=0, keepdb=keepdb)
        wrapper.close()
        assert ask(wrapper, "SELECT DATABASE()") == "test"
    finally:
        del connections[alias]
        del connections.settings[alias]
        with admin.cursor() as cursor:
            cursor.execute("SET lock_wait_timeout = 5")
            cursor.execute(f"DROP DATABASE IF EXISTS test_{alias}")


def test_a_worker_of_the_parallel_test_runner_gets_its_own_database(connect: Connect, admin: Any) -> None:
    with admin.cursor() as cursor:
        cursor.execute("CREATE DATABASE test_1")
        try:
            wrapper = connect()
            assert ask(wrapper, "SELECT DATABASE()") == "test"
            wrapper.creation.setup_worker_connection(1)
            assert ask(wrapper, "SELECT DATABASE()") == "test_1"
        finally:
            cursor.execute("DROP DATABASE test_1")


def test_the_skipped_tests_are_those_of_djangos_postgresql_pool_and_no_other(connect: Connect) -> None:
    pooled, plain = connect().features.django_test_skips, connect(None).features.django_test_skips
    more = {reason: tests for reason, tests in pooled.items() if reason not in plain}
    assert more == {
        "Pool does implicit health checks": {
            "backends.base.test_base.ConnectionHealthChecksTests.test_health_checks_enabled",
            "backends.base.test_base.ConnectionHealthChecksTests.test_set_autocommit_health_checks_enabled",
        }
    }


def test_dbshell_and_mysqldump_are_not_told_of_the_pool(connect: Connect) -> None:
    wrapper = connect({"max_size": 3})
    arguments, _ = wrapper.client.settings_to_cmd_args_env(wrapper.settings_dict, [])
    assert not any("pool" in argument or argument == "3" for argument in arguments)


def test_migrate_and_inspectdb_work(run_site: RunSite, server: DevServer, admin: Any) -> None:
    code = """
import io
def main():
    from django.core.management import call_command
    call_command("migrate", verbosity=0)
    out = io.StringIO()
    call_command("inspectdb", "auth_user", stdout=out)
    call_command("check", databases=["default"])
    call_command("flush", verbosity=0, interactive=False)
    from django.contrib.auth.models import User
    User.objects.create_user("one")
    from pymysqlpool_django import pools
    from django.db import connection
    connection.close()
    report(["class AuthUser" in out.getvalue(), User.objects.count(), pools.stats()["default"][0].created])
"""
    with admin.cursor() as cursor:
        cursor.execute("CREATE DATABASE migrated")
        try:
            apps = ["django.contrib.contenttypes", "django.contrib.auth", "pymysqlpool_django"]
            told = run_site(code, {"default": database(server, NAME="migrated")}, INSTALLED_APPS=apps)
        finally:
            cursor.execute("DROP DATABASE migrated")
    assert told == [True, 1, 1], "all of it over one physical connection"
