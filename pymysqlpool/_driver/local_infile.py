"""LOAD DATA LOCAL: which statements ask for it, and the content that is sent.

A server may answer any statement with a request for a file (MySQL Reference Manual, "Security Considerations for LOAD
DATA LOCAL"). It gets one only in reply to a borrower's statement that reads a local file by its own text, and only
with PyMySQL's option `local_infile`. Owns: that decision, and reading the file. Never: reads a reply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pymysql import err
from pymysql.constants import ER

from .._util.late import pattern

# Blanks, and comments that are not executed. One that is left open goes to the end, so that no search is in vain:
# reading is linear in the text (Invariant 20).
_BETWEEN_WORDS = pattern(rb"(?:\s|/\*(?!!|M!)(?:[^*]++|\*(?!/))*+(?:\*/|\Z))++", re.I)
_LOAD = pattern(rb"\bload\b", re.I)
_READS_LOCAL_FILE = pattern(rb"\bload (?:data|xml) (?:low_priority |concurrent )?local\b", re.I)
_CHUNK = 16 * 1024  # bytes


def reads_local_file(statement: bytes) -> bool:
    """Whether `statement` has a LOAD DATA LOCAL or a LOAD XML LOCAL in it."""
    if _LOAD.search(statement) is None:
        return False
    return _READS_LOCAL_FILE.search(_BETWEEN_WORDS.sub(b" ", statement)) is not None


def content(filename: bytes, max_allowed_packet: int) -> Iterator[bytes]:
    """The file, in pieces of a packet each.

    Raises:
        pymysql.err.OperationalError: it cannot be read; as PyMySQL.
    """
    size = min(max_allowed_packet, _CHUNK)
    try:
        file = open(filename, "rb")  # noqa: SIM115 - tests of users put in place of `open` what has no `__enter__`
        try:
            while chunk := file.read(size):
                yield chunk
        finally:
            file.close()
    except OSError as error:
        raise err.OperationalError(ER.FILE_NOT_FOUND, f"Can't open file '{filename!r}': {error}") from error
