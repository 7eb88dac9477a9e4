"""`python -m pymysqlpool`: the command line, its arguments, its errors and its exit status.

Owns: what all commands share. Each command has a file of its own. Never: shows a password, changes anything on a
server, ends in a traceback because of an argument, a server or a closed pipe.
"""

from __future__ import annotations

import argparse
import getpass
import os
import ssl
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pymysql import err

from .._util.url import masked, parse
from ..errors import PoolError
from . import bench, check, ping, running

_ABOUT = """
Ask a database server (ping, check, bench), or running processes about their pools (status, drain).
"""
_EXAMPLES = """
examples:
  MYSQL_PWD=... python -m pymysqlpool check mysql://shop@db.example.com/shop --ssl-ca ca.pem
  python -m pymysqlpool status --folder /run/shop/pools

exit status: 0 success, 1 the server or a process did not do it, 2 a wrong command line, 130 Ctrl-C
"""
_LONGEST = 31_536_000.0  # seconds; PyMySQL's bound for connect_timeout

_COMMANDS: dict[str, tuple[Callable[[dict[str, Any], argparse.Namespace], int], str]] = {
    "ping": (ping.run, "connect, ask for the version, say how long it took"),
    "check": (check.run, "say what the server is and can do, and what to mend"),
    "bench": (bench.run, "measure what a connect, a borrow and a statement cost on this server"),
}
_OF_PROCESSES: dict[str, tuple[Callable[[argparse.Namespace], int], str]] = {
    "status": (running.status, "show the pools of running processes, and what holds their connections"),
    "drain": (running.drain, "have running processes renew their connections; no borrow is refused"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status; `_EXAMPLES` lists them."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        status = _run(parser, given)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has enough; the interpreter flushes again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    return status


def _run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
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
    except (err.MySQLError, PoolError) as error:
        print(f"error: {ping.place(where)}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    server = argparse.ArgumentParser(add_help=False)
    server.add_argument("url", nargs="?", help="mysql://user@host:3306/database; the options below replace its parts")
    server.add_argument("--host", type=_text, help="default: localhost")
    server.add_argument("--port", type=_port, help="default: 3306")
    server.add_argument("--user", type=_text, help="default: the name of the system's user")
    server.add_argument("--password", action="store_true", help="ask for it; else the URL's, else MYSQL_PWD, else none")
    server.add_argument("--database", type=_text)
    server.add_argument("--unix-socket", type=_text, metavar="PATH", help="instead of host and port")
    server.add_argument("--ssl-ca", type=_text, metavar="FILE", help="certificates that the server's must be signed by")
    server.add_argument(
        "--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="for one connect or statement; default: 10"
    )
    parser = argparse.ArgumentParser(
        prog="python -m pymysqlpool",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, says) in _COMMANDS.items():
        command = commands.add_parser(name, parents=[server], help=says, description=says)
        if name == "bench":
            command.add_argument("--seconds", type=_seconds, default=2.0, help="for each measurement; default: 2")
    for name, (_, says) in _OF_PROCESSES.items():
        command = commands.add_parser(name, help=says, description=says)
        command.add_argument("--folder", type=_text, help="which the processes share; default: PYMYSQLPOOL_BOARD")
        if name == "drain":
            command.add_argument("--pool", type=_text, metavar="LABEL", help="only this one, as `status` names it")
            command.add_argument("--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="default: 10")
    return parser


def _text(given: str) -> str:
    if not given:
        raise argparse.ArgumentTypeError("must not be empty")
    return given


def _port(given: str) -> int:
    if not given.isdecimal() or not 0 < int(given) < 65536:
        raise argparse.ArgumentTypeError(f"{given!r} is no number from 1 to 65535")
    return int(given)


def _seconds(given: str) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{given!r} is no number of seconds above 0, and at most {_LONGEST:.0f}")
    return seconds


def _where(given: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments for PyMySQL.

    Raises:
        ValueError: they make no sense; the message is for the user, and shows no password.
    """
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
    if given.ssl_ca is not None:
        _refuse_bad_certificates(given.ssl_ca)
    if "user" not in where:
        where["user"] = _user_of_the_system()
    if given.password:
        try:
            where["password"] = getpass.getpass()
        except EOFError:
            raise ValueError("--password: there is no terminal to ask on; set MYSQL_PWD instead") from None
    elif "password" not in where and (password := os.environ.get("MYSQL_PWD")):
        where["password"] = password
    return where


def _refuse_bad_certificates(file: str) -> None:
    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:  # among them ssl.SSLError
        raise ValueError(f"--ssl-ca {file!r}: {error.strerror or error}") from error


def _user_of_the_system() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise ValueError("this system's user has no name; give one: --user") from None
