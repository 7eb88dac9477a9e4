"""A differential fuzzer of sessions: does a lease show anything that a brand-new connection of the same pool does not?

    python -m tests.session_fuzz --statements 200000 --server /usr/sbin/mariadbd [--mode always] [--seed 1] [--tasks]

It makes statements from pieces of both manuals' grammars, decorates them (case, blanks, comments, quotes, executable
comments, several in one, PREPARE and EXECUTE, stored code), runs one to three of them on a lease, gives it back, and
looks at everything that the next lease shows (`Glance`). Where that differs from the usual look, a new pool is asked;
where it differs from that too, the statements are reported. What the returns cost is reported as well: of all leases,
and of statements, which is that of the leases with one statement, a third.

Under reset="auto" it leaves out what no mode but "always" can see: stored code behind a harmless name (views, triggers
and defaults); FOUND_ROWS() and ROW_COUNT() are never looked at. See docs/sessions.md.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from zlib import crc32

import pymysql
from pymysql.constants import CLIENT, ER

from pymysqlpool import ConnectionPool, PoolStats, reuse
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.devserver import DevServer
from tests.session_pieces import (
    DATABASE,
    EVERYDAY,
    HIDDEN,
    HIDDEN_SCHEMA,
    MARIADB_SCHEMA,
    MYSQL_USERS,
    ODD,
    SCHEMA,
    SCOPES,
    USERS,
    VARIABLES,
)
from tests.support import wait_until

# A statement that one of these refuses does not end its lease.
REFUSALS = (
    pymysql.err.ProgrammingError,
    pymysql.err.OperationalError,
    pymysql.err.InternalError,
    pymysql.err.IntegrityError,
    pymysql.err.DataError,
    pymysql.err.NotSupportedError,
    UnicodeError,
    RuntimeError,
)
# They change from one session, or from one moment, to the next.
VOLATILE = ("timestamp", "pseudo_thread_id", "rand_seed1", "rand_seed2", "last_gtid", "gtid_seq_no", "statement_id")


class Grammar:
    """Makes statements."""

    def __init__(self, chance: random.Random, file: str, pieces: Sequence[str]) -> None:
        self._chance = chance
        self._file = file
        self._pieces = pieces

    def statement(self) -> str:
        chance = self._chance
        kind = chance.random()
        if kind < 0.35:
            text = chance.choice(EVERYDAY)
        elif kind < 0.5:
            text = self._assignment()
        else:
            text = chance.choice(self._pieces).replace("{file}", self._file)
        if chance.random() < 0.4:
            text = self._decorated(text)
        kind = chance.random()
        if kind < 0.05:
            text = "; ".join([text, chance.choice(self._pieces), chance.choice(EVERYDAY)][: chance.randint(2, 3)])
        elif kind < 0.07:
            quoted = text.replace("\\", "\\\\").replace("'", "''")
            text = f"execute immediate '{quoted}'" if chance.random() < 0.5 else f"prepare ps1 from '{quoted}'"
        elif kind < 0.10:
            text = self._damaged(text)
        elif kind < 0.12:
            text = f"explain {text}"
        elif kind < 0.13:
            text = f"analyze {text}"
        if "analyze" in text.lower() and "delayed" in text.lower():
            return "select 1"  # MariaDB 10.11: the thread that it starts never ends, and keeps the table locked
        return text

    def _assignment(self) -> str:
        chance = self._chance
        parts = []
        for _ in range(1 if chance.random() < 0.8 else 2):
            name, values = chance.choice(VARIABLES)
            equals = chance.choice(("=", " = ", ":=", " := "))
            parts.append(f"{chance.choice(SCOPES)}{name}{equals}{chance.choice(values)}")
        return "set " + ", ".join(parts)

    def _decorated(self, text: str) -> str:
        chance = self._chance
        for _ in range(chance.randint(1, 3)):
            kind = chance.randrange(10)
            if kind == 0:
                text = text.upper()
            elif kind == 1:
                text = "".join(chance.choice((c.upper(), c.lower())) for c in text)
            elif kind == 2:
                text = text.replace(" ", chance.choice(("  ", "\t", "\n", "\r\n", "\x0b", "\x0c", "/**/", " /* x */ ")))
            elif kind == 3:
                text = (
                    chance.choice(("/* it's */ ", "-- x\n", "# y\n", "--\n", "\n\t", "/*+ x */", "(", ";", " ")) + text
                )
            elif kind == 4:
                text += chance.choice((";", " ;", " -- x", " # y", "/* z */", ";;", "\n", " --", "\x00", "\\"))
            elif kind == 5 and " " in text:
                at = chance.choice([i for i, c in enumerate(text) if c == " "])
                comment = chance.choice(("/* ' */", '/* " */', "/*!*/", "-- '\n", "# `\n", "/*M!*/", "--\n"))
                text = f"{text[:at]} {comment} {text[at + 1 :]}"
            elif kind == 6:
                text = text.replace("(", chance.choice((" (", "/**/(", "\n(")), 1)
            elif kind == 7:
                text = text.replace("'", '"')
            elif kind == 8:
                text = f"/*! {text} */" if chance.random() < 0.5 else f"/*!50000 {text} */"
            elif kind == 9:
                text = text.replace("plain", chance.choice(("`plain`", "fuzz.plain", "`fuzz`.`plain`", "fuzz . plain")))
        return text

    def _damaged(self, text: str) -> str:
        chance = self._chance
        words = text.split(" ")
        at = chance.randrange(len(words))
        kind = chance.randrange(4)
        if kind == 0:
            del words[at]
        elif kind == 1:
            words.insert(at, chance.choice(self._pieces).split(" ")[0])
        elif kind == 2:
            other = chance.choice(self._pieces).split(" ")
            words[at:] = other[chance.randrange(len(other)) :]
        else:
            words[at] = words[at][::-1]
        return " ".join(words)


class Glance:
    """What a session shows, in as few steps as possible; the first look says more of what differs."""

    def __init__(self, admin: Any, is_mariadb: bool) -> None:
        self._admin = admin
        table = "information_schema.session_variables" if is_mariadb else "performance_schema.session_variables"
        names = ", ".join(f"'{name}'" for name in VOLATILE)
        where = f"from {table} where variable_name not in ({names})"
        self.variables = f"select variable_name, variable_value {where}"
        self._sum = f"select sum(crc32(concat(variable_name, '=', variable_value))) {where}"
        self._tells = [
            "select last_insert_id(), @@identity, @@insert_id, database(), current_role(), current_user()",
            "select @a, @b, @c, @@character_set_client, @@collation_connection, @@autocommit",
            "select @@pseudo_thread_id = connection_id(), abs(timestampdiff(second, now(), sysdate())) < 100",
            "select * from tmp1 limit 0",
            "select id, v, t from plain limit 0",
            "select id, v from autos limit 0",
            "execute ps1",
            "handler h1 read first",
            "handler plain read first",
            "show grants",
            "show profiles",
        ]
        if is_mariadb:
            self._tells += ["select lastval(seq)", "select * from seq2 limit 0"]

    def look(self, connection: Any) -> dict[str, Any]:
        number = connection.thread_id()
        shown: dict[str, Any] = {
            "warnings": connection.show_warnings(),
            "python": (
                connection.charset,
                connection.encoding,
                connection.collation,
                connection.autocommit_mode,
                connection.get_autocommit(),
                connection.db,
                connection.cursorclass,
            ),
        }
        with self._admin.cursor() as cursor:
            cursor.execute(
                "select is_used_lock('l1') <=> %s, (select count(*) from information_schema.innodb_trx"
                " where trx_mysql_thread_id = %s)",
                (number, number),
            )
            shown["locks, transaction"] = cursor.fetchall()
            shown["table locks"] = _outcome(cursor, "insert into noisy select 1 from dual where 0")
            shown["row locks"] = _outcome(cursor, "select * from plain for update")
        with connection.cursor() as cursor:
            for statement in self._tells:
                shown[statement] = _outcome(cursor, statement)
            shown["variables"] = _outcome(cursor, self._sum)
        connection.rollback()
        return shown


_VALUE = re.compile(r"(?<![\w.@'$\"`\\-])(0|[1-9]\d{0,8})(?![\w.'\"`\\$])|'([^'\\%\"]*)'")


def in_arguments(statement: str) -> tuple[str, tuple[int | str, ...] | None]:
    """Half of all statements have their values as arguments, as most of an application's have. The text is the same."""
    if "%" in statement or crc32(statement.encode()) & 1:
        return statement, None
    found = list(_VALUE.finditer(statement))
    values = tuple(int(match[1]) if match[1] else match[2] for match in found)
    return (_VALUE.sub("%s", statement), values) if values else (statement, None)


def _outcome(cursor: Any, statement: str) -> Any:
    try:
        cursor.execute(statement)
        rows = cursor.fetchall()
        return len(rows) if "plain" in statement else rows
    except pymysql.err.MySQLError as error:
        return error.args[0]


def differences(seen: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    return {what: (seen[what], value) for what, value in new.items() if seen[what] != value}


class Fuzz:
    def __init__(self, server: DevServer, mode: str, seed: int, file: str, **options: Any) -> None:
        self._options = {
            "host": server.host,
            "port": server.port,
            "user": "fuzz",
            "password": "pw",
            "database": DATABASE,
            "ssl_disabled": True,
            "client_flag": CLIENT.MULTI_STATEMENTS,
            "local_infile": True,
            "read_timeout": 20,
            "size": 1,
            "maxsize": 1,
            "reset": mode,
            **options,
        }
        self._admin = pymysql.connect(**{**server.connect_args, "ssl_disabled": True}, autocommit=True)
        self._is_mariadb = server.flavor == "mariadb"
        self._hidden = mode == "always"
        self.prepare()
        with self._admin.cursor() as cursor:
            cursor.execute("set lock_wait_timeout = 1")
            cursor.execute("set innodb_lock_wait_timeout = 1")
        self.glance = Glance(self._admin, self._is_mariadb)
        pieces = ODD + HIDDEN if self._hidden else ODD
        self._chance = random.Random(seed)
        self._grammar = Grammar(self._chance, file, pieces)
        self.pool = ConnectionPool(**self._options, reuse_policy=self._decide)
        self.file = file
        self.leases = 0
        self.cleaned = 0
        self.closed: Counter[str] = Counter()
        # What the return of a statement cost that was alone on a lease: of all, and of the everyday ones as they are.
        self.cost: Counter[str] = Counter()
        self.everyday_cost: Counter[str] = Counter()
        self._cleanup: reuse.Cleanup | None = None
        self.found: list[tuple[list[str], dict[str, Any]]] = []
        self.usual = self.brand_new()

    def prepare(self) -> None:
        statements = list(SCHEMA)
        statements += MARIADB_SCHEMA if self._is_mariadb else ()
        statements += HIDDEN_SCHEMA if self._hidden else ()
        statements += USERS + (() if self._is_mariadb else MYSQL_USERS)
        with self._admin.cursor() as cursor:
            cursor.execute("set global local_infile = 1")
            cursor.execute("set global innodb_lock_wait_timeout = 2")  # a fuzzed session waits for a prepared branch
            cursor.execute("set global lock_wait_timeout = 2")
            if not self._is_mariadb:
                cursor.execute("set global log_bin_trust_function_creators = 1")
            for statement in statements:
                try:
                    cursor.execute(statement)
                except pymysql.err.OperationalError as error:
                    if error.args[0] != ER.LOCK_WAIT_TIMEOUT:
                        raise
                    self.end_branch()
                    cursor.execute(statement)

    def close(self) -> None:
        self.pool.close(timeout=1)
        self._admin.close()

    def _decide(self, facts: reuse.Facts) -> reuse.Decision:
        """Asked about every return but those that need nothing or a ROLLBACK."""
        self._cleanup = facts.cleanup
        return reuse.decide(facts)

    def brand_new(self) -> dict[str, Any]:
        pool = ConnectionPool(**self._options)
        with pool.get_connection() as connection:
            shown = self.glance.look(connection)
        pool.close(timeout=1)
        return shown

    def _variables(self, connection: Any) -> dict[str, str]:
        with connection.cursor() as cursor:
            cursor.execute(self.glance.variables)
            return dict(cursor.fetchall())

    def run(self, statements: int, report: Callable[[str], None] = lambda text: None) -> None:
        done = 0
        while done < statements:
            said = [self._grammar.statement() for _ in range(self._chance.choice((1, 1, 2, 3, 4, 6)))]
            done += len(said)
            self.lease(said)
            if len(self.found) >= 20:
                return
            if self.leases % 2000 == 0:
                report(f"{done} statements, {len(self.found)} differences, {self.share()}")

    def lease(self, said: Sequence[str]) -> None:
        self.leases += 1
        self._cleanup = None
        ran, number, before = self.use(said)
        after = self.pool.stats()
        self.cleaned += after.reset - before.reset
        if len(said) == 1:
            if sum(after.discarded.values()) > sum(before.discarded.values()):
                cost = "close"
            elif self._cleanup is not None:
                cost = self._cleanup.value
            else:
                cost = "rollback" if after.reset > before.reset else "nothing"
            self.cost[cost] += 1
            if said[0] in EVERYDAY:
                self.everyday_cost[cost] += 1
        for reason, count in after.discarded.items():
            self.closed[reason] += count - before.discarded.get(reason, 0)
        if "xa" in " ".join(said).lower():
            self.end_branch(number if sum(after.discarded.values()) > sum(before.discarded.values()) else 0)
        with self.pool.get_connection(timeout=10) as connection:
            seen = self.glance.look(connection)
            if differences(seen, self.usual):
                self._compare(connection, seen, ran)

    def use(self, said: Sequence[str]) -> tuple[list[str], int, PoolStats]:
        """Run the statements on a lease, and give it back.

        Returns what ran, the session's number, and what the pool counted before the return.
        """
        connection = self.pool.get_connection(timeout=10)
        ran = []
        with suppress(pymysql.err.MySQLError):
            for statement in said:
                with suppress(*REFUSALS):
                    cursor = connection.cursor()
                    try:
                        cursor.execute(*in_arguments(statement))
                        while cursor.nextset():
                            pass
                        ran.append(statement)
                    except Exception as error:
                        ran.append(f"{statement}  -- {error!r:.80}")
                        raise
        number, before = connection.thread_id(), self.pool.stats()
        connection.close()
        return ran, number, before

    def end_branch(self, closed: int = 0) -> None:
        """A prepared XA branch is the server's, not the session's. Of session `closed` it comes when that has ended,
        which itself may wait for a lock of the branch."""
        with self._admin.cursor() as cursor:

            def has_ended() -> bool:
                if not self._is_mariadb:  # whose XA ROLLBACK beside the session's end loses the branch, not its locks
                    with suppress(pymysql.err.MySQLError):
                        cursor.execute("xa rollback 'fuzz'")
                cursor.execute("select count(*) from information_schema.processlist where id = %s", (closed,))
                return bool(cursor.fetchone() == (0,))

            wait_until(has_ended, f"session {closed} has ended")
            with suppress(pymysql.err.MySQLError):
                cursor.execute("xa rollback 'fuzz'")

    def _compare(self, connection: Any, seen: dict[str, Any], ran: list[str]) -> None:
        """It may be the tables that changed, not the session."""
        self.usual = self.brand_new()
        found = differences(seen, self.usual)
        if found and "variables" in found:
            pool = ConnectionPool(**self._options)
            with pool.get_connection() as new:
                there, here = self._variables(new), self._variables(connection)
                found["variables"] = {
                    name: (here.get(name), there[name]) for name in there if here.get(name) != there[name]
                }
            pool.close(timeout=1)
        if found:
            self.found.append((ran, found))
        self.prepare()
        self.usual = self.brand_new()

    def share(self) -> str:
        total = max(1, self.leases)
        closed = {reason: count for reason, count in self.closed.items() if count}
        return (
            f"of {total} leases {self.cleaned / total:.0%} cleaned, {sum(closed.values()) / total:.1%} closed: {closed}"
            f"; of {shares(self.cost)}; of everyday {shares(self.everyday_cost)}"
        )


class TaskFuzz(Fuzz):
    """The statements run on an event loop, and the returns as well; other borrowers of the same pool look."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._runner = asyncio.Runner()
        self._awaited = AsyncConnectionPool(pool=self.pool)

    def close(self) -> None:
        self._runner.close()
        super().close()

    def use(self, said: Sequence[str]) -> tuple[list[str], int, PoolStats]:
        return self._runner.run(self._use(said))

    async def _use(self, said: Sequence[str]) -> tuple[list[str], int, PoolStats]:
        connection = await self._awaited.get_connection(timeout=10)
        ran = []
        with suppress(pymysql.err.MySQLError):
            for statement in said:
                with suppress(*REFUSALS):
                    cursor = connection.cursor()
                    try:
                        await cursor.execute(*in_arguments(statement))
                        while await cursor.nextset():
                            pass
                        ran.append(statement)
                    except Exception as error:
                        ran.append(f"{statement}  -- {error!r:.80}")
                        raise
        number, before = connection.thread_id(), self.pool.stats()
        await connection.close()
        return ran, number, before


def shares(cost: Counter[str]) -> str:
    total = max(1, cost.total())
    return f"{total} statements " + ", ".join(f"{number / total:.1%} {what}" for what, number in cost.most_common())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.session_fuzz", description=__doc__)
    parser.add_argument("--statements", type=int, default=5000)
    parser.add_argument("--server", help="the server program (default: the installed one)")
    parser.add_argument("--mode", default="auto", choices=("auto", "always"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--charset", default="utf8mb4")
    parser.add_argument("--tasks", action="store_true", help="the leases are those of an event loop")
    given = parser.parse_args(arguments)
    import tempfile

    with DevServer(binary=given.server) as server, tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\\N\t5\n\\N\t6\n")
        file.flush()
        fuzz = (TaskFuzz if given.tasks else Fuzz)(server, given.mode, given.seed, file.name, charset=given.charset)
        began = time.monotonic()
        fuzz.run(given.statements, lambda text: print(f"{time.monotonic() - began:6.0f} s: {text}", flush=True))
        print(
            f"{server.version}, reset={given.mode!r}, {given.statements} statements, seed {given.seed}: {fuzz.share()}"
        )
        for ran, found in fuzz.found:
            print("DIFFERENT", ran)
            for what, (seen, new) in found.items() if isinstance(found, dict) else ():
                print("   ", what, ":", str(seen)[:300], "| new:", str(new)[:300])
        found = len(fuzz.found)
        print(f"{found} differences")
        fuzz.close()
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
