"""The position of a commit in the replies of both kinds of server, and in those that tell nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymysqlpool._driver.commits import UNKNOWN, commit_after

UUID = b"3e11fa47-71ca-11e1-9e33-c80aa9429562:23"


def information(*entries: tuple[int, bytes]) -> bytes:
    packed = b"".join(bytes((kind, len(data))) + data for kind, data in entries)
    return b"\0" + bytes((len(packed),)) + packed


@pytest.mark.parametrize(
    ("message", "token"),
    [
        (information((0, b"\tlast_gtid\x050-1-1")), "0-1-1"),
        (information((3, b"\0" + bytes((len(UUID),)) + UUID)), UUID.decode()),
        (information((0, b"\nautocommit\x02ON"), (2, b"\x011")), None),
        (information((5, b"\x08________"), (3, b"\0" + bytes((len(UUID),)) + UUID)), UUID.decode()),
        (b"", UNKNOWN),
        (information((3, b"\0"))[:-1], UNKNOWN),
    ],
    ids=["MariaDB", "MySQL", "no commit", "MySQL with a transaction's state", "a result set's end", "cut short"],
)
def test_a_reply_tells_the_position_of_its_commit(message: bytes, token: str | None) -> None:
    assert commit_after(message) == token


@given(st.binary(max_size=60))
def test_no_bytes_are_an_error(message: bytes) -> None:
    commit_after(message)
