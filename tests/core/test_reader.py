"""The fast reader and PyMySQL's own read the same bytes: the same values, descriptions, errors and states.

A conversation is made from a seed: options of the connection, a few statements, and what a server answers, valid or
broken. Two connections have it, PyMySQL's and ours, and what a caller can see of them is compared after each step.

Where they may differ, all of it in `_differs_on_purpose`:

* PyMySQL stops reading in the middle of a result (a value that no converter takes, a packet that makes no sense) and
  goes on with whatever is left of it as the answer to the next statement. Ours refuses the next statement or, after a
  value that could not be converted, has read the rest.
* A server that has sent more than a reply: PyMySQL takes the rest for the answer to the next statement. Ours refuses.
* After a lost connection, PyMySQL's unbuffered cursors raise an AttributeError, ours an InterfaceError. An
  InterfaceError has a text.
* 32,768 warnings and more: PyMySQL counts them as a negative number where a result had rows.

`PYMYSQLPOOL_FUZZ=50000` has as many conversations instead of a few, `PYMYSQLPOOL_FUZZ_FROM` begins elsewhere.
"""

from __future__ import annotations

import io
import os
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from random import Random
from typing import Any

import pymysql
import pytest
from pymysql import converters
from pymysql.charset import charset_by_name
from pymysql.constants import FIELD_TYPE
from pymysql.cursors import Cursor, DictCursor, SSCursor, SSDictCursor

from benchmarks.bench import write_certificate
from pymysqlpool import ConnectionInterruptedError
from pymysqlpool._driver.protocol import columns, rows
from pymysqlpool.connection import Connection
from tests.core import replies

CONVERSATIONS = int(os.environ.get("PYMYSQLPOOL_FUZZ", "800"))
FIRST = int(os.environ.get("PYMYSQLPOOL_FUZZ_FROM", "0"))


# -- the same server for both ------------------------------------------------------------------------------


class ScriptedSocket:
    """A socket whose peer says the next turn of a script after each request. A receive gives at most one piece."""

    def __init__(self, turns: Sequence[Sequence[bytes]], ending: str) -> None:
        self._turns = iter(turns)
        self._ending = ending
        self._pieces: list[bytes] = []
        self._closed = False
        self._timeout: float | None = None
        self._turn()

    def _turn(self) -> None:
        self._pieces += next(self._turns, ())

    def recv(self, size: int) -> bytes:
        if self._closed:
            raise OSError(9, "Bad file descriptor")
        if not self._pieces:
            if self._ending == "silent":
                raise TimeoutError("timed out")
            if self._ending == "reset":
                raise ConnectionResetError(104, "Connection reset by peer")
            return b""
        piece = self._pieces.pop(0)
        if len(piece) > size:
            self._pieces.insert(0, piece[size:])
        return piece[:size]

    def recv_into(self, buffer: Any) -> int:
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def sendall(self, data: bytes) -> None:
        if completes_a_request(data):
            self._turn()

    def settimeout(self, timeout: float | None) -> None:
        """A silent peer does not take its time."""
        self._timeout = timeout

    def gettimeout(self) -> float | None:
        return self._timeout

    def makefile(self, mode: str) -> Any:
        return io.BufferedReader(socket.SocketIO(self, "r"))  # type: ignore[arg-type]

    def _decref_socketios(self) -> None:
        """As SocketIO wants it."""

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self._closed = True


def completes_a_request(data: bytes) -> bool:
    """The login (number 1), a command (number 0), or the empty packet after a file's content."""
    return data[3] in (0, 1) or data[:3] == b"\0\0\0"


# -- a conversation ----------------------------------------------------------------------------------------


class NotHashable:
    """A converter that is an object with no hash."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, value: Any) -> Any:
        return ("converted", value)


def refuse(value: Any) -> Any:
    raise KeyError(value)


def only_longer(value: Any) -> Any:
    assert len(value) > 2, value
    return value


# It may be answered with a request for a file.
STATEMENT = "load data local infile 'rows' into table t"

CONVERSIONS: tuple[Any, ...] = (
    None,
    {},
    dict.fromkeys(replies.TYPES, str),
    {FIELD_TYPE.LONG: NotHashable(), FIELD_TYPE.VAR_STRING: NotHashable()},
    {FIELD_TYPE.LONG: float, FIELD_TYPE.VAR_STRING: int, FIELD_TYPE.DOUBLE: int},
    {FIELD_TYPE.LONG: refuse, FIELD_TYPE.NEWDECIMAL: refuse},
    {FIELD_TYPE.BLOB: only_longer, FIELD_TYPE.LONGLONG: only_longer},
)
CURSORS: tuple[type[Cursor], ...] = (Cursor, Cursor, Cursor, DictCursor, SSCursor, SSDictCursor)


@dataclass(frozen=True)
class Conversation:
    options: dict[str, Any]
    cursors: tuple[type[Cursor], ...]  # of each statement
    turns: tuple[tuple[tuple[bytes, ...], ...], ...]  # of each statement: the server's turns, in pieces
    ending: str  # and after the last turn: "closed", "silent" or "reset"
    broken_at: int | None  # the statement whose reply makes no sense
    is_lent: bool = False  # ours has the converters that a pool shares between its connections

    @property
    def is_broken(self) -> bool:
        return self.broken_at is not None

    def brief(self) -> str:
        cursors = ", ".join(cursor.__name__ for cursor in self.cursors)
        return f"{self.options} {cursors} {self.ending} broken={self.is_broken}\n" + "\n".join(
            str(b"".join(turn)[:2000]) for statement in self.turns for turn in statement
        )

    def statement_alone(self, index: int) -> Conversation:
        """The same with one of its statements only."""
        return replace(self, cursors=self.cursors[index : index + 1], turns=self.turns[index : index + 1])


def conversation(seed: int, file: Path) -> Conversation:
    random = Random(seed)
    charset = random.choice(("utf8mb4", "utf8mb4", "latin1", "cp932", "ascii", "gbk", "latin2"))
    options = {
        "charset": charset,
        "use_unicode": random.random() < 0.8,
        "conv": random.choice(CONVERSIONS) if random.random() < 0.4 else None,
        "local_infile": random.random() < 0.8,
    }
    encoding = charset_by_name(charset).encoding
    statements = random.choice((1, 2, 3))
    broken_at = random.randrange(statements) if random.random() < 0.6 else None
    turns: list[tuple[tuple[bytes, ...], ...]] = []
    for index in range(statements):
        if turns and broken_at is None and random.random() < 0.2:
            turns.append(random.choice(turns))
            continue
        asks: tuple[tuple[bytes, ...], ...] = ()
        if random.random() < 0.04 and broken_at is None:
            asked = random.choice((file, file.with_name("nowhere")))
            asks = ((replies.packets([b"\xfb" + os.fsencode(asked)])[0],),)
            reply = replies.packets([replies.ok(2)], 4 if asked == file else 3)
        else:
            reply = replies.packets(replies.a_reply(random, encoding))
        stream = replies.broken(random, reply) if index == broken_at else b"".join(reply)
        turns.append((*asks, tuple(replies.in_pieces(random, stream))))
    cursors = tuple(random.choice(CURSORS) for _ in range(statements))
    return Conversation(
        options, cursors, tuple(turns), random.choice(("closed", "silent", "reset")), broken_at, seed % 2 == 1
    )


LOGIN = ((replies.packets([replies.GREETING], 0)[0],), (replies.packets([replies.OK], 2)[0],))
SET_UP = (replies.packets([replies.OK])[0],)


@dataclass
class Step:
    what: str
    outcome: Any  # what was returned, or the type and the text of what was raised
    seen: dict[str, Any]  # what a caller can see afterwards
    is_error: bool = False
    is_servers_error: bool = False  # it came in an error packet, or the connection was lost
    refuses: bool = False  # nothing was sent: the connection is known to be of no use


def hold(kind: type[Any], talk: Conversation, sock: Any) -> list[Step]:
    """Have the conversation on a connection of that kind; what happened."""
    connection = kind(user="u", autocommit=None, ssl_disabled=True, defer_connect=True, **talk.options)
    connection.connect(sock)
    if kind is Connection and talk.is_lent:
        share_converters(connection, talk.options["conv"])
    steps: list[Step] = []
    for index, cursor_type in enumerate(talk.cursors):
        cursor = connection.cursor(cursor_type)

        def step(what: str, action: Callable[[], Any], cursor: Any = cursor, index: int = index) -> Step:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of an unbuffered result that was left incomplete
                    outcome, error = action(), None
            except Exception as raised:  # noqa: BLE001 - compared
                said = "closed" if type(raised) is pymysql.err.InterfaceError else str(raised)
                said = said.replace("Can't find file", "Can't open file").partition(": [Errno 2]")[0].rstrip('")')
                outcome, error = (type(raised), said, getattr(raised, "sqlstate", None)), raised
            made = Step(f"{what} {index}", outcome, seen(connection, cursor), error is not None)
            made.is_servers_error = isinstance(error, pymysql.err.MySQLError)
            made.refuses = isinstance(error, (ConnectionInterruptedError, pymysql.err.InterfaceError))
            steps.append(made)
            return made

        if not step("execute", partial(cursor.execute, STATEMENT)).is_error:
            while True:
                step("fetchone", cursor.fetchone)
                step("fetchmany", partial(listed, cursor.fetchmany, 2))
                step("fetchall", partial(listed, cursor.fetchall))
                last = step("nextset", cursor.nextset)
                if last.is_error or not last.outcome:
                    break
        cursor._result = cursor.connection = None  # it would read on when it is collected
    forget(connection)
    return steps


def share_converters(connection: Any, conv: Any) -> None:
    attributes = connection.__dict__
    own = (conv, attributes.pop("decoders"), attributes.pop("encoders"))
    _, attributes["_pristine_decoders"], attributes["_pristine_encoders"] = SHARED.setdefault(id(conv), own)


SHARED: dict[int, tuple[Any, ...]] = {}  # converters, by the option `conv` they are made of


def listed(fetch: Callable[..., Any], *arguments: Any) -> list[Any]:
    return list(fetch(*arguments))


def forget(connection: Any) -> None:
    """An unbuffered result that failed must not read on when it is collected: no code could catch the error."""
    if connection._result is not None:
        connection._result.unbuffered_active = False
    with suppress(Exception):
        connection._force_close()


def seen(connection: Any, cursor: Any) -> dict[str, Any]:
    facts = {name: getattr(cursor, name) for name in ("rowcount", "rownumber", "description", "lastrowid")}
    facts |= {"warnings": cursor.warning_count & 0xFFFF, "open": connection.open}
    result = connection._result
    if result is not None and connection.open:
        names = ("affected_rows", "insert_id", "message", "field_count", "description", "rows", "has_next")
        facts |= {f"result.{name}": getattr(result, name) for name in names}
        facts["insert_id()"] = connection.insert_id()
        if result.field_count == 0:
            facts["server_status"] = connection.server_status
        facts["fields"] = [vars_of(field) for field in getattr(result, "fields", ())]
    return facts


def vars_of(field: Any) -> dict[str, Any]:
    return dict(field.__dict__)


def compare(talk: Conversation, make: Callable[[Conversation], Any]) -> None:
    theirs = hold(pymysql.connections.Connection, talk, make(talk))
    ours = hold(Connection, talk, make(talk))
    made_no_sense = False
    for at, (mine, his) in enumerate(zip_longest(ours, theirs)):
        told = f"{talk.brief()}\n\nours:   {mine}\n\nPyMySQL: {his}"
        assert mine is not None, told
        assert his is not None, told
        if repr((mine.what, mine.outcome, mine.seen)) != repr((his.what, his.outcome, his.seen)):  # NaN is not NaN
            assert differs_on_purpose(mine, his) or (made_no_sense and mine.refuses), told
            return
        if his.is_error and not his.is_servers_error and his.seen["open"]:
            what, index = his.what.split()
            if what in ("execute", "nextset"):  # a fetch from an unbuffered result has read a whole packet
                check_the_next_statement(talk, int(index), ours[at + 1 :], make)
                return
            made_no_sense = talk.is_broken


def differs_on_purpose(mine: Step, his: Step) -> bool:
    if mine.refuses and "has sent more than" in mine.outcome[1]:
        return True
    if mine.is_error and "the server has ended this session" in mine.outcome[1]:
        return True  # PyMySQL sends the next statement all the same
    if not his.is_error:
        return False
    if his.outcome[0] is AttributeError and not his.seen["open"]:
        return mine.refuses  # PyMySQL reads on after it has lost the connection
    # Ours read on, and found that the connection has ended.
    return (mine.what, mine.outcome, mine.seen | {"open": True}) == (his.what, his.outcome, his.seen)


def check_the_next_statement(
    talk: Conversation, failed: int, steps: Sequence[Step], make: Callable[[Conversation], Any]
) -> None:
    """PyMySQL would go on in the middle of a result. Ours refuses, or gives the answer that the statement has alone."""
    if not steps or steps[0].refuses or not steps[0].seen["open"] or talk.is_broken:
        return
    if any(issubclass(cursor, SSCursor) for cursor in talk.cursors[:failed]):
        return  # what failed may be reading the rest of an unbuffered result: the next statement's answer is another
    alone = talk.statement_alone(failed + 1)
    (theirs, *_) = hold(pymysql.connections.Connection, alone, make(alone))
    mine = steps[0]
    assert repr((mine.outcome, mine.seen)) == repr((theirs.outcome, theirs.seen)), f"{talk.brief()} {mine} {theirs}"


def scripted(talk: Conversation) -> ScriptedSocket:
    return ScriptedSocket([*LOGIN, SET_UP, *chain.from_iterable(talk.turns)], talk.ending)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("come_often", [False, True], ids=["rows", "rows_of_a_shape_that_comes_often"])
def test_any_reply_is_read_as_pymysql_reads_it(
    tmp_path: Path, come_often: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if come_often:
        every_shape_comes_often(monkeypatch)
    for seed in range(FIRST, FIRST + CONVERSATIONS):
        with naming(seed):
            compare(conversation(seed, a_file(tmp_path)), scripted)


def every_shape_comes_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows are read by functions made for their shapes, see `protocol.rows`."""
    converting_of = columns._converting

    def often(*arguments: Any) -> columns.Converting:
        converting = converting_of(*arguments)
        rows.come_often(converting)
        return converting

    monkeypatch.setattr(columns, "_converting", often)
    monkeypatch.setattr(columns, "_known", {})


def a_file(folder: Path) -> Path:
    file = folder / "rows"
    if not file.exists():
        file.write_text("1\n2\n")
    return file


@contextmanager
def naming(seed: int) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from None


# -- over real sockets -------------------------------------------------------------------------------------


class Server:
    """A thread that follows a conversation's script on one end of a connected socket."""

    def __init__(self, talk: Conversation, peer: socket.socket, tls: ssl.SSLContext | None) -> None:
        # After half an answer the reader waits: nothing comes after it but the end.
        until = len(talk.turns) if talk.broken_at is None else talk.broken_at + 1
        self._turns = [*LOGIN, SET_UP, *chain.from_iterable(talk.turns[:until])]
        self._peer = peer
        self._tls = tls
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        peer = self._peer
        peer.settimeout(20)
        with suppress(OSError):
            if self._tls is not None:
                peer = self._tls.wrap_socket(peer, server_side=True)
            for number, turn in enumerate(self._turns):
                if number == 0 or self._receive_request(peer):
                    for piece in turn:
                        peer.sendall(piece)
            socket.socket.shutdown(peer, socket.SHUT_WR)
            while peer.recv(65536):
                pass
        peer.close()

    def _receive_request(self, peer: socket.socket) -> bool:
        while True:
            header = self._receive(peer, 4)
            self._receive(peer, int.from_bytes(header[:3], "little"))
            if len(header) < 4 or completes_a_request(header):
                return len(header) == 4

    @staticmethod
    def _receive(peer: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := peer.recv(size - len(data))):
            data += more
        return data


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    for end in (one, other):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The client's context and the server's."""
    certificate, key = write_certificate(tmp_path_factory.mktemp("tls"))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return ssl.create_default_context(cafile=str(certificate)), server


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    "transport",
    [
        pytest.param("unix", marks=pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no unix sockets")),
        "tcp",
        "tls",
    ],
)
def test_over_real_sockets_too(tmp_path: Path, transport: str, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    servers: list[Server] = []

    def served(talk: Conversation) -> socket.socket:
        ours, theirs = socket.socketpair() if transport == "unix" else tcp_pair()
        ours.settimeout(20)
        servers.append(Server(talk, theirs, tls[1] if transport == "tls" else None))
        return tls[0].wrap_socket(ours, server_hostname="127.0.0.1") if transport == "tls" else ours

    for seed in range(FIRST, FIRST + max(30, CONVERSATIONS // 20)):
        talk = conversation(seed, a_file(tmp_path))
        with naming(seed):
            compare(talk, served)
        while servers:
            servers.pop().join()


# -- what the seeds seldom hit -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(columns._datetime, converters.convert_datetime), (columns._date, converters.convert_date)],
)
def test_dates_in_any_form(ours: Callable[[Any], Any], theirs: Callable[[Any], Any]) -> None:
    """The usual forms are read by a shorter way."""
    random = Random(1)
    usual = 0
    for _ in range(20_000):
        value = random.choice(("2024-02-29", "0000-00-00", "1000-12-31", "2023-02-29", "2024-W05-1"))
        if random.random() < 0.8:
            value += random.choice("  T") + random.choice(("12:34:56", "24:00:00", "23:59:60", "1:2:3"))
            value += random.choice(("", "", ".123456", ".123", ".1+0100", ",123456", "+01", "Z", ".12345 "))
        if random.random() < 0.7:
            at = random.randrange(len(value))
            value = value[:at] + random.choice("0123456789-:. +ZTW_\0") + value[at + 1 :]
        read = []
        for convert in (ours, theirs):
            for given in (value, value.encode()):
                try:
                    read.append(repr(convert(given)))
                except Exception as error:  # noqa: BLE001 - compared
                    read.append(repr(error))
        assert read[:2] == read[2:], value
        usual += read[0].startswith("datetime")
    assert usual > 500


def connected(kind: type[Any], talk: Conversation) -> Any:
    connection = kind(user="u", autocommit=None, ssl_disabled=True, defer_connect=True)
    connection.connect(scripted(talk))
    return connection


def reply_of(*payloads: bytes, pieces: int = 1 << 30) -> tuple[tuple[bytes, ...], ...]:
    stream = b"".join(replies.packets(payloads))
    return (tuple(stream[at : at + pieces] for at in range(0, len(stream), pieces)),)


def talk_of(*turns: tuple[tuple[bytes, ...], ...], cursor: type[Cursor] = Cursor, **options: Any) -> Conversation:
    return Conversation(options, (cursor,) * len(turns), turns, "closed", None)


ONE_TEXT = [b"\x01", replies.column(FIELD_TYPE.LONG_BLOB, 45), replies.end()]


@pytest.mark.parametrize("cursor", [Cursor, SSCursor])
def test_values_around_16_mb(cursor: type[Cursor]) -> None:
    full = replies.LARGEST - 4  # with its length, a value of that size fills a packet
    for size in (full - 1, full, full + 1, replies.LARGEST + 1, 2 * replies.LARGEST - 9):
        rows = [replies.string(b"v" * size), replies.string(b"next")]
        reply = reply_of(*ONE_TEXT, *rows, replies.end(), pieces=(1 << 24) - 1)
        talk = talk_of(reply, reply_of(replies.ok(1, 2)), cursor=cursor)
        read = []
        for kind in (Connection, pymysql.connections.Connection):
            connection = connected(kind, talk)
            with connection.cursor(cursor) as cur:
                cur.execute("select")
                read.append(list(cur.fetchall()))
                cur.execute("insert")
                assert cur.lastrowid == 2
            connection._force_close()
        ours, theirs = read
        assert [len(row[0]) for row in ours] == [size, 4]
        assert ours == theirs


def test_the_number_of_a_packet_starts_again_after_255() -> None:
    rows = [replies.string(b"%d" % number) for number in range(1000)]
    compare(talk_of(reply_of(*ONE_TEXT, *rows, replies.end(), pieces=50)), scripted)


@pytest.mark.parametrize("cursor", [Cursor, SSCursor])
def test_the_status_that_pymysql_drops_is_recorded(cursor: type[Cursor]) -> None:
    """A snapshot that a SELECT began shows in the EOF packet only."""
    in_transaction = reply_of(*ONE_TEXT, replies.string(b"1"), replies.end(status=0x2023, warnings=3))
    connection = connected(Connection, talk_of(in_transaction))
    with connection.cursor(cursor) as cur:
        cur.execute("select 1")
        cur.fetchall()
        assert connection.server_status == 0x2023
        assert cur.warning_count == 3
    connection._force_close()


def test_forty_thousand_warnings_are_not_negative() -> None:
    connection = connected(Connection, talk_of(reply_of(*ONE_TEXT, replies.end(warnings=40_000))))
    cursor = connection.cursor()
    cursor.execute("select 1")
    assert cursor.warning_count == 40_000
    connection._force_close()


def test_the_switch_turns_it_off() -> None:
    connection = Connection(user="u", autocommit=None, ssl_disabled=True, defer_connect=True)
    connection._reads_fast = False
    connection.connect(scripted(talk_of(reply_of(*ONE_TEXT, replies.string(b"1"), replies.end()))))  # type: ignore[arg-type]
    assert isinstance(connection._rfile, io.BufferedReader)
    assert connection.query("select 1") == 1
    connection._force_close()
