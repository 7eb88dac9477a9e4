"""`python -m pymysqlpool ping | check | bench`: whether the server answers, what it supports and what to correct, what
a borrow costs on it. `status | drain`: show the pools of running processes, and renew their connections. Each command
has a file of its own.

Never: shows a password, changes anything on a server.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pymysql import err

from .._util.url import masked, parse
from ..errors import PoolError
from . import bench, check, ping, running

_COMMANDS: dict[str, tuple[Callable[[dict[str, Any], argparse.Namespace], int], str]] = {
    "ping": (ping.run, "connect, ask for the version, say how long it took"),
    "check": (check.run, "say what the server is and can do, and what to mend"),
    "bench": (bench.run, "measure what a connect, a borrow and a statement cost on this server"),
}


_OF_PROCESSES: dict[str, tuple[Callable[[argparse.Namespace], int], str]] = {
    "status": (running.status, "show the pools of running processes, and what holds their connections"),
    "drain": (running.drain, "have running processes renew their connections, without refusing anybody"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status: 0 success, 1 a problem with the server, 2 a wrong command line."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.command in _OF_PROCESSES:
        try:
            return _OF_PROCESSES[given.command][0](given)
        except LookupError as error:
            parser.error(str(error.args[0]))
    try:
        where = _where(given)
    except ValueError as error:
        parser.error(str(error))
    try:
        return _COMMANDS[given.command][0](where, given)
    except (err.MySQLError, PoolError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    server = argparse.ArgumentParser(add_help=False)
    server.add_argument("url", nargs="?", help="mysql://user@host:3306/database; instead of the options below")
    server.add_argument("--host", help="default: localhost")
    server.add_argument("--port", type=int, help="default: 3306")
    server.add_argument("--user", help="default: the name of the system's user")
    server.add_argument("--password", action="store_true", help="ask for it; else MYSQL_PWD, else none")
    server.add_argument("--database")
    server.add_argument("--unix-socket", metavar="PATH", help="instead of host and port")
    server.add_argument("--ssl-ca", metavar="FILE", help="certificates that the server's must be signed by")
    server.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="for one connect; default: 10")
    parser = argparse.ArgumentParser(prog="python -m pymysqlpool", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, says) in _COMMANDS.items():
        command = commands.add_parser(name, parents=[server], help=says, description=says)
        if name == "bench":
            command.add_argument("--seconds", type=float, default=2.0, help="for each measurement; default: 2")
    for name, (_, says) in _OF_PROCESSES.items():
        command = commands.add_parser(name, help=says, description=says)
        command.add_argument("--folder", help="which the processes share; default: PYMYSQLPOOL_BOARD")
        if name == "drain":
            command.add_argument("--pool", metavar="LABEL", help="only this one, as `status` names it")
            command.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="default: 10")
    return parser


def _where(given: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments for PyMySQL."""
    where: dict[str, Any] = {"connect_timeout": given.timeout, "read_timeout": given.timeout}
    if given.url:
        address = parse(given.url)
        if len(address.hosts) > 1:
            raise ValueError(f"{masked(given.url)!r} names {len(address.hosts)} hosts; ask one at a time")
        if address.options:
            raise ValueError(f"{masked(given.url)!r}: options behind '?' are not known here; see --help")
        host, port = address.hosts[0]
        where |= {"host": host, "port": port or 3306, **address.arguments}
    for name in ("host", "port", "user", "database", "unix_socket", "ssl_ca"):
        if (value := getattr(given, name)) is not None:
            where[name] = value
    where.setdefault("user", getpass.getuser())
    if given.password:
        where["password"] = getpass.getpass()
    elif "password" not in where and (password := os.environ.get("MYSQL_PWD")):
        where["password"] = password
    return where
