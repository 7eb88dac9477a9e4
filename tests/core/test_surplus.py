"""What comes without being asked for: surplus replies, requests for local files, and the one OK that is expected."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT

from pymysqlpool import ConnectionInterruptedError
from pymysqlpool._driver.local_infile import reads_local_file
from tests.conftest import MakePool
from tests.core.test_protocol import OK, FakeServer, answers_are_right, discarded, packet, row_of_one

ONE = b"".join(packet(n + 1, p) for n, p in enumerate(row_of_one(b"7")))


def to_a_fake(make_pool: MakePool, fake: FakeServer, **options: Any) -> Any:
    return make_pool(host="127.0.0.1", port=fake.port, database=None, size=1, maxsize=1, read_timeout=5, **options)


@pytest.mark.parametrize("surplus", [packet(1, OK), ONE, b"\1"], ids=["OK", "result", "a byte"])
@pytest.mark.parametrize("reply", [packet(1, OK), ONE], ids=["OK", "result"])
def test_a_surplus_reply_answers_no_statement(make_pool: MakePool, reply: bytes, surplus: bytes) -> None:
    with FakeServer(lambda peer: peer.sendall(reply + surplus)) as fake:
        pool = to_a_fake(make_pool, fake)
        connection = pool.get_connection(timeout=5)
        connection.query("select 7")
        with pytest.raises(ConnectionInterruptedError, match="sent more than the replies"):
            connection.query("select 8")
        connection.close()
        connection = pool.get_connection(timeout=5)
        connection.query("select 7")
        connection.close()
        assert sum(discarded(pool).values()) == 2
        pool.close(timeout=0)


def test_a_farewell_behind_a_reply_is_a_lost_connection(make_pool: MakePool) -> None:
    """Number 0: the server ends the session, as with ERROR 4031."""
    ended = packet(0, b"\xff\xbf\x0f#HY000disconnected by the server because of inactivity")
    with FakeServer(lambda peer: peer.sendall(ONE + ended)) as fake:
        pool = to_a_fake(make_pool, fake)
        connection = pool.get_connection(timeout=5)
        connection.query("select 7")
        with pytest.raises(pymysql.err.OperationalError) as caught:
            connection.query("select 8")
        assert caught.value.args[0] == 2013
        connection.close()
        pool.close(timeout=0)


def test_a_surplus_reply_behind_a_reset_is_not_kept(make_pool: MakePool) -> None:
    def answer(peer: Any) -> None:
        peer.sendall(packet(1, OK))
        sizes = iter(range(100))
        while FakeServer._receive(peer):  # the commands of the reset: as many replies, and one more
            peer.sendall(packet(1, OK) * (2 if next(sizes) == 1 else 1))

    with FakeServer(answer) as fake:
        pool = to_a_fake(make_pool, fake)
        connection = pool.get_connection(timeout=5)
        connection.query("set @x = 1")
        connection.close()
        assert pool.stats().idle == 0
        assert sum(discarded(pool).values()) == 1
        pool.close(timeout=0)


# -- local files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fast_reader", [True, False])
@pytest.mark.parametrize(
    ("statement", "is_served"),
    [("select 7", False), ("load data local infile 'rows' into table t", True)],
    ids=["SELECT", "LOAD DATA LOCAL"],
)
def test_a_file_is_sent_only_in_reply_to_a_statement_that_reads_one(
    make_pool: MakePool, tmp_path: Path, statement: str, is_served: bool, fast_reader: bool
) -> None:
    file = tmp_path / "private"
    file.write_text("private")
    received: list[bytes] = []

    def ask_for_the_file(peer: Any) -> None:
        peer.sendall(packet(1, b"\xfb" + str(file).encode()))
        received.append(FakeServer._receive(peer))

    with FakeServer(ask_for_the_file) as fake:
        pool = to_a_fake(make_pool, fake, local_infile=True, fast_reader=fast_reader)
        connection = pool.get_connection(timeout=5)
        with pytest.raises(pymysql.err.MySQLError, match=None if is_served else "no LOAD DATA LOCAL; nothing was sent"):
            connection.query(statement)
        connection.close()
        pool.close(timeout=0)
        assert sum(discarded(pool).values()) == 1
    assert received == [b"private" if is_served else b""]


@pytest.mark.parametrize(
    "statement",
    [
        b"LOAD DATA LOCAL INFILE 'f' INTO TABLE t",
        b"  load  /* a */ data\nlow_priority local infile 'f' into table t",
        b"/* c */ LOAD XML CONCURRENT LOCAL INFILE 'f' INTO TABLE t",
        b"/*! load data local infile 'f' into table t */",
        b"set @x = 1; load data local infile 'f' into table t",
    ],
)
def test_statements_that_read_a_local_file(statement: bytes) -> None:
    assert reads_local_file(statement)


@pytest.mark.parametrize(
    "statement",
    [
        b"",
        b"select 1",
        b"LOAD DATA INFILE 'local' INTO TABLE t",
        b"select load, data, local from t",
        b"SET NAMES utf8",
        b"/* load data local infile 'f' into table t */ select 1",
        b"load" + b"/**/" * 1000,
    ],
)
def test_statements_that_read_none(statement: bytes) -> None:
    assert not reads_local_file(statement)


# -- the OK packet at the end of a CALL --------------------------------------------------------------------


@pytest.fixture
def procedures(admin: Any) -> None:
    with admin.cursor() as cursor:
        for name, body in {
            "one_result": "select 1",
            "two_results": "begin select 1; select 2; end",
            "slow_end": "begin select 1; do sleep(0.5); end",
            "refused_end": "begin select 1; signal sqlstate '45000'; end",
        }.items():
            cursor.execute(f"drop procedure if exists {name}")
            cursor.execute(f"create procedure {name}() {body}")


def call(connection: Any, name: str) -> None:
    cursor = connection.cursor()
    cursor.callproc(name)
    assert cursor.fetchall() == ((1,),)


@pytest.mark.parametrize("fetch", [lambda connection: None, lambda connection: connection.ping()])
def test_a_call_whose_rows_were_read_keeps_its_connection(
    make_pool: MakePool, procedures: None, fetch: Callable[[Any], None]
) -> None:
    pool = make_pool(size=1, maxsize=1)
    for _ in range(5):
        connection = pool.get_connection()
        call(connection, "one_result")
        fetch(connection)
        connection.close()
        answers_are_right(pool)
    assert (pool.stats().created, discarded(pool)) == (1, {})


@pytest.mark.parametrize("name", ["two_results", "slow_end", "refused_end"])
def test_whatever_else_is_unread_is_not_waited_for(make_pool: MakePool, procedures: None, name: str) -> None:
    pool = make_pool(size=1, maxsize=1)
    connection = pool.get_connection()
    call(connection, name)
    began = time.monotonic()
    connection.close()
    assert time.monotonic() - began < 0.3
    answers_are_right(pool)
    assert discarded(pool) == {"interrupted": 1}


def test_an_ok_behind_a_result_of_several_statements_is_read_too(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, client_flag=CLIENT.MULTI_STATEMENTS)
    connection = pool.get_connection()
    connection.cursor().execute("select 1; do 1; set @left = 1; do 2")
    connection.close()
    with pool.get_connection() as connection:
        assert connection.execute_query("select @left") == ((None,),)
    assert discarded(pool) == {}
