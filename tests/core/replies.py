"""Replies as a server could send them, made from a seed: valid ones of every kind, and broken ones.

What a seed makes never changes between runs, so a failing one is reproduced by its number.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

from pymysql.constants import FIELD_TYPE, SERVER_STATUS

LARGEST = 0xFFFFFF  # bytes in one packet
MORE = SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS

GREETING = (
    b"\x0a8.0.0-fake\x00" + struct.pack("<I", 7) + b"saltsalt\x00" + struct.pack("<H", 0xF7FF) + b"\x21"
    + struct.pack("<HH", 2, 0x00FF) + b"\x15" + b"\x00" * 10 + b"saltsaltsalt\x00" + b"mysql_native_password\x00"
)  # fmt: skip
OK = b"\x00\x00\x00\x02\x00\x00\x00"

TYPES = [*sorted({number for name, number in vars(FIELD_TYPE).items() if name.isupper()}), 17, 19, 242]
CHARSETS = (63, 8, 33, 45, 95, 255)
_DATES = ("2024-02-29", "0000-00-00", "9999-12-31", "2023-02-30", "24-1-1", "")
_TIMES = ("12:34:56", "-838:59:59.000001", "00:00:00.5", "25:61:61", "1:2", "-00:00:01", "x")
_TEXTS = ("", "a", "größe", "日本語", "😀", "x" * 250, "y" * 251, "z" * 252, "\0\xff", "NaN", "1_0")


def packets(payloads: Sequence[bytes], sequence: int = 1) -> list[bytes]:
    """Each payload as it goes over the wire; one of 16 MB and more in several packets."""
    sent = []
    for payload in payloads:
        rest = payload
        while True:
            part, rest = rest[:LARGEST], rest[LARGEST:]
            sent.append(struct.pack("<I", len(part))[:3] + bytes([sequence]) + part)
            sequence = (sequence + 1) & 0xFF
            if len(part) < LARGEST:
                break
    return sent


def number(value: int) -> bytes:
    """A length-encoded integer."""
    if value < 251:
        return bytes([value])
    if value < 1 << 16:
        return b"\xfc" + struct.pack("<H", value)
    if value < 1 << 24:
        return b"\xfd" + struct.pack("<I", value)[:3]
    return b"\xfe" + struct.pack("<Q", value)


def string(value: bytes | None) -> bytes:
    return b"\xfb" if value is None else number(len(value)) + value


def column(kind: int, charset: int, name: bytes = b"a", length: int = 80, flags: int = 0, scale: int = 0) -> bytes:
    names = b"".join(map(string, (b"def", b"test", b"t", b"t", name, name)))
    return names + b"\x0c" + struct.pack("<HIBHBxx", charset, length, kind, flags, scale)


def end(status: int = 2, warnings: int = 0) -> bytes:
    return b"\xfe" + struct.pack("<HH", warnings, status)


def ok(affected: int = 0, insert_id: int = 0, status: int = 2, warnings: int = 0, message: bytes = b"") -> bytes:
    return b"\x00" + number(affected) + number(insert_id) + struct.pack("<HH", status, warnings) + message


def error(code: int, message: bytes, state: bytes = b"#HY000") -> bytes:
    return b"\xff" + struct.pack("<H", code) + state + message


def result_set(columns: Sequence[bytes], rows: Sequence[bytes], last: bytes) -> list[bytes]:
    return [number(len(columns)), *columns, end(), *rows, last]


# -- from a seed -------------------------------------------------------------------------------------------


def a_value(random: Random, kind: int, encoding: str) -> bytes | None:
    """A value of a column of that type, as text; sometimes none, sometimes what no server would send."""
    chance = random.random()
    if chance < 0.12:
        return None
    if chance < 0.16:
        return random.randbytes(random.choice((0, 1, 3, 250, 251, 300)))
    if kind in (1, 2, 3, 8, 9, 13):
        return str(random.choice((0, 1, -1, 2**63, random.randrange(-(2**63), 2**64)))).encode()
    if kind in (0, 4, 5, 246):
        return random.choice((b"0", b"-1.50", b"1e308", b"nan", b"3.14159", b"00012.30", b"inf"))
    if kind in (10, 14):
        return random.choice(_DATES).encode()
    if kind in (7, 12):
        return (random.choice(_DATES) + random.choice((" ", "T", "")) + random.choice(_TIMES)).encode()
    if kind == 11:
        return random.choice(_TIMES).encode()
    if kind in (16, 255):
        return random.randbytes(random.randrange(9))
    if chance < 0.165:
        return b"w" * random.choice((65_535, 65_536, 70_000))
    return random.choice(_TEXTS).encode(encoding, "replace")


def a_result_set(random: Random, encoding: str, last: bytes) -> list[bytes]:
    kinds = [random.choice(TYPES) for _ in range(random.choice((1, 1, 2, 3, 6, 20)))]
    columns = [
        column(
            kind,
            random.choice(CHARSETS),
            random.choice((b"a", b"b", b"a.b", "ä".encode(encoding, "replace"), b"")),
            random.choice((0, 1, 80, 2**32 - 1)),
            random.choice((0, 1, 0x1081)),
            random.choice((0, 2, 31)),
        )
        for kind in kinds
    ]
    rows = [
        b"".join(string(a_value(random, kind, encoding)) for kind in kinds)
        for _ in range(random.choice((0, 1, 1, 2, 5, 40)))
    ]
    if rows and random.random() < 0.05:
        rows[-1] = error(1317, b"Query execution was interrupted", random.choice((b"#70100", b"")))
        return result_set(columns, rows, last)[:-1]
    return result_set(columns, rows, last)


def a_reply(random: Random, encoding: str) -> list[bytes]:
    """The payloads of a whole reply to one statement: one result or several, or an error."""
    payloads: list[bytes] = []
    while True:
        more = MORE if random.random() < 0.3 else 0
        status = random.choice((0, 2, 3, 0x22, 0x4002)) | more
        warnings = random.choice((0, 0, 1, 400))
        what = random.random()
        if what < 0.1:
            code = random.choice((1062, 1064, 1205, 1213, 3024, 999, 70, 4031))
            return [*payloads, error(code, "falsch: ß".encode(), random.choice((b"#23000", b"#HY000", b"")))]
        if what < 0.3:
            tracked = b"\x02hi\x03\x02\x011" if status & 0x4000 else b""
            numbers = (0, 1, 300, 70_000, 2**40)
            payloads.append(ok(random.choice(numbers), random.choice(numbers), status, warnings, tracked))
        else:
            payloads += a_result_set(random, encoding, end(status, warnings))
        if not more:
            return payloads


# -- broken ------------------------------------------------------------------------------------------------


def _cut(random: Random, sent: list[bytes]) -> bytes:
    stream = b"".join(sent)
    return stream[: random.randrange(len(stream))]


def _flip(random: Random, sent: list[bytes]) -> bytes:
    stream = bytearray(b"".join(sent))
    for _ in range(random.choice((1, 1, 2, 5))):
        stream[random.randrange(len(stream))] = random.choice((0, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF, random.randrange(256)))
    return bytes(stream)


def _insert(random: Random, sent: list[bytes]) -> bytes:
    stream = b"".join(sent)
    at = random.randrange(len(stream) + 1)
    return stream[:at] + random.randbytes(random.choice((1, 2, 4, 50))) + stream[at:]


def _drop_bytes(random: Random, sent: list[bytes]) -> bytes:
    stream = b"".join(sent)
    at = random.randrange(len(stream))
    return stream[:at] + stream[at + random.choice((1, 2, 4, 50)) :]


def _renumber(random: Random, sent: list[bytes]) -> bytes:
    at = random.randrange(len(sent))
    wrong = random.choice((0, 255, random.randrange(256)))
    return b"".join([*sent[:at], sent[at][:3] + bytes([wrong]) + sent[at][4:], *sent[at + 1 :]])


def _mismeasure(random: Random, sent: list[bytes]) -> bytes:
    at = random.randrange(len(sent))
    length = int.from_bytes(sent[at][:3], "little") + random.choice((-2, -1, 1, 2, 300, LARGEST))
    header = struct.pack("<I", min(max(length, 0), LARGEST))[:3]
    return b"".join([*sent[:at], header + sent[at][3:], *sent[at + 1 :]])


def _repayload(random: Random, sent: list[bytes]) -> bytes:
    """One packet with a payload of another kind, or none, but with the right header."""
    at = random.randrange(len(sent))
    payload = sent[at][4:]
    other = random.choice(
        (
            b"", payload[:1], payload[: len(payload) // 2], b"\xfe", b"\xfe\x00\x00", end(0xFFFF, 0x7FFF), ok(),
            error(1317, b"interrupted"), b"\xff\x01", b"\xfb/nowhere", b"\x00", b"\x00\x00\x00", b"\xfc\x01",
            payload + b"\x00", b"\xff" + payload[1:], b"\xfd\xff\xff" + payload, b"\xfe" + payload,
        )
    )  # fmt: skip
    (whole,) = packets([other], sent[at][3])
    return b"".join([*sent[:at], whole, *sent[at + 1 :]])


def _lose_or_repeat(random: Random, sent: list[bytes]) -> bytes:
    at = random.randrange(len(sent))
    return b"".join([*sent[:at], *[sent[at]] * random.choice((0, 2)), *sent[at + 1 :]])


_WAYS_TO_BREAK: tuple[Callable[[Random, list[bytes]], bytes], ...] = (
    _cut, _flip, _flip, _insert, _drop_bytes, _renumber, _mismeasure, _repayload, _repayload, _lose_or_repeat,
)  # fmt: skip


def broken(random: Random, sent: list[bytes]) -> bytes:
    return random.choice(_WAYS_TO_BREAK)(random, sent)


def in_pieces(random: Random, stream: bytes) -> list[bytes]:
    """The same bytes in segments as a network may deliver them."""
    largest = random.choice((1, 3, 7, 60, 1500, 20_000, 1 << 30))
    if largest < 60 and len(stream) > 3000:
        largest = 1500
    pieces, at = [], 0
    while at < len(stream):
        size = random.randint(1, largest)
        pieces.append(stream[at : at + size])
        at += size
    return pieces
