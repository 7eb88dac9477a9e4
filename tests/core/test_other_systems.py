"""Windows and macOS: what these systems lack is hidden before the import, and the pool does its work without it.

This shows the paths that are taken there, not that the systems themselves do what their manuals say.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pymysqlpool.devserver import DevServer

# What the standard library asks `sys.platform` for is loaded before the platform is changed.
HIDE = """
import asyncio, concurrent.futures, http.server, json, logging.handlers, mmap, multiprocessing, os, select, signal
import socket, ssl, subprocess, sys, sysconfig, tempfile, urllib.request, uuid

import importlib
for package in sys.argv[3].split():  # these ask for it as well
    try:
        importlib.import_module(package)
    except ModuleNotFoundError:
        pass

platform, server = sys.argv[1], json.loads(sys.argv[2])
sysconfig.get_config_vars()
loop = asyncio.new_event_loop()
LACKS = {
    "win32": {
        os: "fork forkpty register_at_fork getuid geteuid posix_spawn wait4 sched_setaffinity fchmod chown sysconf"
        " statvfs uname O_NOFOLLOW O_CLOEXEC",
        signal: "SIGUSR1 SIGUSR2 SIGHUP SIGALRM SIGKILL SIGCHLD SIGQUIT pthread_sigmask pthread_kill setitimer alarm",
        socket: "AF_UNIX MSG_DONTWAIT MSG_NOSIGNAL MSG_WAITALL SO_REUSEPORT TCP_USER_TIMEOUT TCP_KEEPIDLE TCP_KEEPINTVL"
        " TCP_KEEPCNT",
        select: "poll epoll",
        mmap: "MAP_PRIVATE MAP_ANONYMOUS MAP_ANON MAP_SHARED PROT_READ PROT_WRITE",
    },
    "darwin": {
        os: "sched_setaffinity",
        signal: "sigtimedwait",
        socket: "TCP_USER_TIMEOUT TCP_KEEPIDLE",
        select: "epoll poll",
        mmap: "",
    },
}[platform]
for module, names in LACKS.items():
    for name in [*names.split(), *(name for name in vars(module) if name.startswith("MADV_"))]:
        vars(module).pop(name, None)
for name in ("resource", "fcntl", "pwd", "grp", "termios") if platform == "win32" else ("resource",):
    sys.modules[name] = None
if platform == "win32":
    os.kill = None  # with 0 it sends a Ctrl-C
    os.environ["USERNAME"] = "user"
    ssl.enum_certificates = lambda store: []

    def add_reader(*args):
        raise NotImplementedError  # as the usual loop of Windows

    loop.add_reader = loop.add_writer = add_reader
sys.platform = platform

import pymysqlpool
from pymysqlpool import aio, aiomysql, asgi, cluster, health, metrics, status, testing, wsgi
"""
WORK = {
    "threads": """
with pymysqlpool.ConnectionPool(**server, connect_timeout=10, keepalive=1, background=True) as pool:
    for _ in range(2):
        with pool.get_connection(timeout=10) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT %s", ("x",))
            assert cursor.fetchall() == (("x",),)
            cursor.execute("SET @mine = 1")
    assert pool.stats().created == 1
""",
    "asyncio": """
async def main():
    async with aio.AsyncConnectionPool(**server) as pool:
        async with pool.get_connection() as connection, connection.cursor() as cursor:
            await cursor.execute("SELECT %s", ("x",))
            assert await cursor.fetchall() == (("x",),)
loop.run_until_complete(main())
""",
    "processes": """
import tempfile, time
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # the board writes on
    with pymysqlpool.ConnectionPool(name="mine", **server) as pool:
        pool.get_connection().close()
        assert status.publish(folder)
        deadline = time.monotonic() + 10
        while b"mine" not in status.page(folder)[1]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
""",
    "every module": """
import importlib, pkgutil, pymysqlpool_flask
for package in (pymysqlpool, pymysqlpool_flask):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                assert not error.name.startswith("pymysqlpool"), error  # an extra that is not installed
""",
    "Flask": """
import flask, pymysqlpool_flask
app = flask.Flask("shop")
app.config["PYMYSQLPOOL"] = {**server, "read_timeout": 30}
db = pymysqlpool_flask.PyMySQLPool(app)
app.add_url_rule("/", view_func=lambda: str(flask.g.db.execute_query("SELECT 7")[0][0]))
assert app.test_client().get("/").data == b"7"
with app.app_context():
    assert db.health().status == 200
db.get_pool(app=app).close()
""",
    "a cluster": """
place = {"host": server.pop("host"), "port": server.pop("port")}
with cluster.Cluster([place], timeout=10, check_interval=1.0, **server) as several:
    with several.primary.get_connection() as connection:
        assert connection.execute_query("SELECT 7") == ((7,),)
""",
    "the command line": """
from pymysqlpool._cli import main
url = "mysql://{user}:{password}@{host}:{port}/{database}".format(**server)
assert main(["ping", url]) == main(["check", url]) == 0
""",
    "a unix socket": """
try:
    pymysqlpool.ConnectionPool(unix_socket="/tmp/a.sock")
except pymysqlpool.SettingsError as error:
    assert platform == "win32" and "unix_socket" in str(error), error
else:
    assert platform != "win32"
""",
}
NEEDS = {
    "every module": "flask prometheus_client pytest sqlalchemy.ext.asyncio",
    "Flask": "flask",
    "processes": "prometheus_client",
}


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_the_pool_works_without_what_the_system_lacks(platform: str, work: str, server: DevServer) -> None:
    run = subprocess.run(
        [sys.executable, "-c", HIDE + WORK[work], platform, json.dumps(server.connect_args), NEEDS.get(work, "")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
