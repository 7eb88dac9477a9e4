"""The protocol core without a socket: it says what it needs, and gives what PyMySQL reads of the same bytes."""

from __future__ import annotations

import ast
import io
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pymysql
import pytest
from pymysql import converters, protocol

import pymysqlpool._driver.protocol
from pymysqlpool._driver.protocol.columns import _OFTEN, Converting, read_column
from pymysqlpool._driver.protocol.packets import ERR, OK, LocalInfileRequest
from pymysqlpool._driver.protocol.reply import ResultSet, more_rows, reply
from pymysqlpool._driver.protocol.rows import come_often, decode_rows
from pymysqlpool._driver.protocol.source import Source
from tests.core import replies
from tests.core.test_reader import every_shape_comes_often

FOLDER = Path(pymysqlpool._driver.protocol.__file__).parent
DECODERS = converters.decoders
REPLIES = 80


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_it_imports_nothing_that_waits_sends_or_receives(file: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level < 2, f"{file.name} imports from outside the core"
            imported.add(node.module or "")
    assert not imported & {"socket", "ssl", "select", "asyncio", "threading", "time", "os"}


class Feed:
    """Drives steps with the pieces of a stream, as an event loop does."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.source = Source()
        self.pauses = 0
        self.sent = b""
        self._pieces = iter(pieces)

    def run(self, steps: Any, file: bytes = b"") -> Any:
        answer = None
        try:
            while True:
                asked = steps.send(answer)
                answer = None
                if isinstance(asked, LocalInfileRequest):
                    answer = iter([file])
                elif isinstance(asked, bytes):
                    self.sent += asked
                elif asked == 0:
                    self.pauses += 1
                else:
                    while self.source.unread < asked:
                        self.source.feed(next(self._pieces))
        except StopIteration as end:
            return end.value

    def next_reply(self, encoding: str, most: int, **options: Any) -> Any:
        return self.run(reply(self.source, encoding, True, DECODERS, True, most=most, **options))


def pymysqls(stream: bytes, charset: str) -> Any:
    connection = pymysql.connections.Connection(user="u", charset=charset, defer_connect=True)
    connection._rfile = io.BytesIO(stream)  # type: ignore[attr-defined]
    connection._sock = SimpleNamespace(settimeout=lambda timeout: None, close=lambda: None)  # type: ignore[attr-defined]
    connection._current_timeout = None  # type: ignore[attr-defined]
    connection._next_seq_id = 1  # type: ignore[attr-defined]
    return connection


@pytest.mark.parametrize("come_often", [False, True])
@pytest.mark.parametrize("most", [1, 3, 1000])
def test_fed_in_pieces_and_stopped_every_few_rows_it_gives_what_pymysql_reads(
    most: int, come_often: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if come_often:
        every_shape_comes_often(monkeypatch)
    pauses = 0
    for seed in range(REPLIES):
        random = Random(seed)
        stream = b"".join(replies.packets(replies.a_reply(random, "utf8")))
        feed = Feed(replies.in_pieces(random, stream))
        theirs = pymysqls(stream, "utf8mb4")
        while True:
            ours = feed.next_reply("utf8", most)
            failure = ours.exception if type(ours) is ERR else getattr(ours, "failure", None)
            error: Exception | None = None
            try:
                theirs._affected_rows = theirs._read_query_result()
            except Exception as raised:  # noqa: BLE001 - compared
                error = raised
            if error is not None:
                assert (type(failure), str(failure)) == (type(error), str(error)), seed
                break
            his = theirs._result
            assert failure is None, seed
            if type(ours) is ResultSet:
                ours.rows = tuple(ours.rows)  # of a result that was read in steps the cursor does it
            names = ("affected_rows", "insert_id", "description", "rows", "has_next", "message")
            assert repr([getattr(ours, name) for name in names]) == repr([getattr(his, name) for name in names]), seed
            if not ours.has_next:
                assert feed.source.unread == 0
                break
        pauses += feed.pauses
    assert (pauses > 0) == (most < 1000)


def test_an_unbuffered_result_comes_in_batches_of_what_was_received() -> None:
    rows = [replies.string(b"%d" % number) for number in range(100)]
    columns = [replies.column(3, 63)]
    stream = b"".join(replies.packets(replies.result_set(columns, rows, replies.end(warnings=2))))
    feed = Feed([stream[at : at + 50] for at in range(0, len(stream), 50)])
    result = feed.next_reply("utf8", 1000, unbuffered=True)
    assert type(result) is ResultSet
    result.unbuffered_active = True
    batches = []
    while batch := feed.run(more_rows(feed.source, result, 7)):
        batches.append(batch)
    assert [row for batch in batches for row in batch] == [(number,) for number in range(100)]
    assert max(map(len, batches)) == 7
    assert len(batches) > 100 / 7
    assert (result.is_whole, result.warning_count, result.has_next) == (True, 2, 0)


@pytest.mark.parametrize("allowed", [True, False, None])
def test_a_request_for_a_local_file_is_answered_only_where_it_may_be(allowed: bool | None) -> None:
    stream = replies.packets([b"\xfbrows"])[0] + replies.packets([replies.ok(2)], 4)[0]
    feed = Feed([stream])
    steps = reply(feed.source, "utf8", True, DECODERS, True, local_infile=allowed)
    if allowed:
        assert type(answer := feed.run(steps, b"1\n2\n")) is OK
        assert answer.affected_rows == 2
        assert feed.sent == b"\4\0\0\2" + b"1\n2\n" + b"\0\0\0\3"
    else:
        with pytest.raises(
            RuntimeError if allowed is None else pymysql.err.InternalError, match=r"local_infile|'rows'"
        ):
            feed.run(steps)
        assert feed.sent == b""


def test_a_column_definition_is_what_pymysql_reads() -> None:
    """Whole ones, and such with bytes that are changed, cut off or added."""
    random = Random(25)
    outcomes: set[str] = set()
    for _ in range(20_000):
        name = bytes(random.choices(b"abc \xc3\xa4\xff", k=random.choice((0, 3, 250, 251, 300))))
        payload = bytearray(
            replies.column(random.randrange(256), random.choice((33, 45, 63)), name, 40, random.randrange(9))
        )
        for _ in range(random.choice((0, 0, 1, 2))):
            payload[random.randrange(len(payload))] = random.choice((0, 1, 13, 250, 251, 252, 254, 255))
        data = bytes(payload)[: random.choice((len(payload), len(payload), random.randrange(1, len(payload))))]
        data += b"x" * random.choice((0, 0, 1, 9))
        found = []
        for read in (protocol.FieldDescriptorPacket, read_column):
            try:
                field: Any = read(data, "utf8")
            except Exception as error:  # noqa: BLE001 - compared
                found.append((type(error), str(error)))
            else:
                found.append((type(field), vars(field), field._data, field._position, field.description()))
        assert found[0] == found[1], data
        outcomes.add(found[0][0].__name__)
    assert len(outcomes) > 2  # columns, and several errors


def test_a_shape_that_comes_often_gets_a_function_that_stops_before_what_is_not_usual() -> None:
    """It reads up to a row whose value no converter takes, a row that is cut off, and the end."""
    converting = Converting([("", int), ("utf8", None)])
    usual = [replies.string(b"7") + replies.string(None), replies.string(b"-8") + replies.string(b"x" * 300)]
    source = Source()
    for _ in range(_OFTEN // 2 + 1):
        assert converting.read_rows is None
        source.feed(replies.packets(usual[:1])[0])
        source.sequence = 1
        decode_rows(source, converting, [], 1)
    assert converting.read_rows is not None
    for last in (replies.end(), replies.string(b"no number") + replies.string(b"b"), replies.string(b"9")):
        *_, before = stream = replies.packets([*usual, last])
        data, rows = b"".join(stream), []
        at = len(data) - len(before)
        assert converting.read_rows(data, 0, 1 << 24, rows.append, 10) == (at, 3 << 24)
        assert rows == [(7, None), (-8, "x" * 300)]
        assert converting.read_rows(data[: at - 1], 0, 1 << 24, rows.append, 10)[1] == 2 << 24
    assert converting.read_rows(data, 0, 1 << 24, rows.append, 1)[1] == 2 << 24


def test_a_converter_of_the_users_gets_no_such_function() -> None:
    """It may have an effect, and the function would call it once more."""
    converting = Converting([("utf8", str.upper)])
    come_often(converting)
    assert converting.read_rows is None
