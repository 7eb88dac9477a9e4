"""The commands `flask pool status` (configuration, and the pools of running workers), `ping` (whether the servers
answer) and `drain` (renew the workers' connections).

Never: prints a password, connects for `status`.
"""

from __future__ import annotations

import re
from time import monotonic
from typing import TYPE_CHECKING, Any

import click
from flask import current_app
from flask.cli import AppGroup
from pymysql import err

from pymysqlpool import status as running

if TYPE_CHECKING:
    from .state import AppState

pool: AppGroup = AppGroup("pool", help="The connection pools of this application.")

# Options whose values are shown. Others, such as hooks and arguments of PyMySQL, are shown as set.
_SECRET = re.compile("passw|secret|token|key|init_command|ssl|auth|read_default", re.IGNORECASE)
_MASK = "***"


@pool.command()
@click.option("--folder", help="Which the workers share; default: PYMYSQLPOOL_BOARD.")
def status(folder: str | None) -> None:
    """Show each pool's configuration, secrets masked, and the pools of running workers, without connecting."""
    state = _state()
    for bind in state.binds:
        its = state.pool(bind)
        click.secho(f"{bind or 'default'}: {its.name}", bold=True)
        click.echo(f"  server   {its.endpoint}")
        options = state.binds[bind]
        click.echo(f"  on g     {'g.' + options.g_name if options.g_name else 'nothing'}")
        for name in sorted(options.pool):
            click.echo(f"  {name} = {_shown(name, options.pool[name])}")
        now = its.stats()
        click.echo(f"  in this process: {now.in_use} in use, {now.idle} idle, at most {now.maxsize}")
    try:
        click.echo(running.text(folder))
    except LookupError as error:
        if folder is not None:  # without one, the workers share none
            raise click.UsageError(str(error.args[0])) from error


@pool.command()
@click.option("--folder", help="Which the workers share; default: PYMYSQLPOOL_BOARD.")
@click.option("--pool", "label", help="Only this one, as `status` names it.")
@click.option("--timeout", type=click.FloatRange(0), default=10.0, show_default=True, help="Seconds.")
def drain(folder: str | None, label: str | None, timeout: float) -> None:
    """Have the running workers renew their connections; no request is refused. The exit status is 1 if one does not."""
    done = number = 0
    try:
        for done, number in running.ask_for_drain(folder, label).watch(timeout):
            click.echo(f"{done} of {number} workers renew their connections")
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from error
    except OSError as error:
        raise click.ClickException(str(error)) from error
    if done < number or not number:
        raise click.exceptions.Exit(1)


@pool.command()
@click.option("--bind", "binds", multiple=True, help="Only this database of PYMYSQLPOOL_BINDS; repeatable.")
def ping(binds: tuple[str, ...]) -> None:
    """Borrow a connection from each pool and ask its server; the exit status is 1 if one does not answer."""
    state = _state()
    wanted: list[str | None] = [*binds] or [*state.binds]
    for bind in wanted:
        if bind not in state.binds:
            raise click.BadParameter(f"no database {bind!r} in PYMYSQLPOOL_BINDS", param_hint="--bind")
    failed = False
    for bind in wanted:
        its = state.pool(bind)
        started = monotonic()
        try:
            with its.get_connection() as connection:
                connected = monotonic()
                connection.execute("SELECT VERSION(), @@max_connections")
                version, limit = connection.fetchone()
        except err.MySQLError as error:
            failed = True
            click.secho(f"{bind or 'default'}: {its.endpoint} does not answer: {error}", fg="red")
            continue
        answered = monotonic()
        maxsize = its.stats().maxsize
        click.secho(
            f"{bind or 'default'}: {its.endpoint} is {version}; connected in {(connected - started) * 1000:.1f} ms, "
            f"answered in {(answered - connected) * 1000:.1f} ms",
            fg="green",
        )
        if maxsize > int(limit):
            click.echo(f"  maxsize={maxsize} is more than the server's max_connections={limit}, even for one process")
    if failed:
        raise click.exceptions.Exit(1)


def _state() -> AppState:
    state: AppState = current_app.extensions["pymysqlpool"]
    return state


def _shown(name: str, value: Any) -> str:
    if _SECRET.search(name) or callable(value):
        return _MASK
    return repr(value)
