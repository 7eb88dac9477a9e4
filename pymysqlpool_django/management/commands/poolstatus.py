"""`manage.py poolstatus`: how many connections the site may open, and how many its servers allow.

The pools are in the processes that serve requests, so a command cannot see them. It shows the maximum of each pool, the
server's numbers, and what the processes publish in the folder PYMYSQLPOOL_BOARD, if there is one.

Never: changes anything.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import OperationalError

from pymysqlpool import status
from pymysqlpool_django import options, server


class Command(BaseCommand):
    help = "Shows the pool of each database, and whether all of them fit into the server's max_connections."
    requires_system_checks: tuple[()] = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--database", action="append", metavar="ALIAS", help="only this one; repeatable")
        parser.add_argument(
            "--processes", type=int, metavar="N", help="how many serve the site (default: PYMYSQLPOOL_PROCESSES, or 1)"
        )

    def handle(self, *args: Any, **given: Any) -> None:
        processes = given["processes"] or server.processes()
        pooled = server.pooled(given["database"])
        if not pooled:
            self.stdout.write('No database has OPTIONS["pool"].')
        totals: dict[tuple[str, int], int] = {}
        limits: dict[tuple[str, int], int] = {}
        for alias, understood in pooled.items():
            self._show_pool(alias, understood)
            try:
                it = server.ask(alias)
            except OperationalError as error:
                self.stderr.write(self.style.ERROR(f"  server       not reached: {error}"))
                continue
            self.stdout.write(f"  server       {it.version} at {it.identity[0]}:{it.identity[1]}")
            self.stdout.write(f"  sessions     {it.connected} now, max_connections {it.max_connections}")
            limits[it.identity] = it.max_connections
            totals[it.identity] = totals.get(it.identity, 0) + processes * understood.core["maxsize"]
        for identity, total in totals.items():
            fits = total <= limits[identity]
            style = self.style.SUCCESS if fits else self.style.ERROR
            self.stdout.write(
                style(
                    f"{processes} process{'es' if processes > 1 else ''} may want {total} of {limits[identity]} "
                    f"connections of {identity[0]}:{identity[1]}: {'fits' if fits else 'TOO MANY'}"
                )
            )

        with suppress(LookupError):  # no folder that the processes share
            self.stdout.write(status.text())

    def _show_pool(self, alias: str, understood: options.PoolOptions) -> None:
        core = understood.core
        release = "after each transaction" if understood.release_after_transaction else "at the end of the request"
        self.stdout.write(self.style.MIGRATE_HEADING(alias))
        self.stdout.write(f"  connections  {core['size']} at once, {core['maxsize']} at most, per process")
        self.stdout.write(f"  timeout      {core['timeout']} s")
        self.stdout.write(f"  lifetime     {core.get('con_lifetime', options.LIFETIME) or 'unlimited'} s")
        self.stdout.write(f"  given back   {release}")
