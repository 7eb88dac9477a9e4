"""The text of a statement, cut as the server cuts it.

Owns: the server's lexical rules (strings, quoted names, comments, words, operators), as far as they are the same under
every sql_mode and server that may be at the other end. Text that any of them would cut differently is not cut at all:
`tokens` returns None, and the caller assumes the worst. Never: knows what a word means.

Reading is linear in the length of the text (Invariant 20): every pattern consumes what it has matched for good
(possessive quantifiers), each byte can begin one kind of token only, and the first byte that begins none ends it.

Sources: MySQL 9 Reference Manual, 11.1.1 (string literals), 11.2 (names), 11.7 (comments); MariaDB Knowledge Base,
"Comment Syntax", "Identifier Names"; `sql_lex.cc` of both. The rules that matter most:

* A backslash escapes in a string unless NO_BACKSLASH_ESCAPES, which the status flags of each reply tell. Double quotes
  hold a string or, with ANSI_QUOTES, a name, and in a name a backslash is no escape: `"` after one is not read.
* `--` begins a comment only before white space, a control byte or the end; `#` everywhere. Both end at a line feed,
  not at a carriage return; and at a NUL, which is read in strings only.
* `/*` ends at the first `*/`. `/*!`, `/*M!` are executed and `/*+` are hints with quoting of their own: not read.
* White space and word characters are those of the connection's character set; see `Bytes`.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from .._util.late import pattern

NAME: Final = b"`"  # stands for any quoted name, or what ANSI_QUOTES makes one
LITERAL: Final = b"?"
OPEN: Final = b"("
OPEN_APART: Final = b" ("  # something stands between the token before it and the parenthesis
VARIABLE: Final = b"@"  # a user variable, or the host of an account


class Bytes(Enum):
    """What bytes from 0x80 on may be in a character set of the client.

    UTF8: letters, everywhere. SINGLE: letters or white space (0xA0), or halves of a character that is letters only:
    read in strings only. DOUBLE: the second half of a character may look like a backslash or a backtick (gbk, big5,
    sjis ...), and every character set that is not known: read in strings only, and not beside a backslash.
    """

    UTF8 = "utf8"
    SINGLE = "single"
    DOUBLE = "double"


_UTF8 = frozenset({"utf8", "utf8mb3", "utf8mb4"})
_SINGLE = frozenset(
    (
        b"ascii armscii8 binary cp1250 cp1251 cp1256 cp1257 cp850 cp852 cp866 dec8 geostd8 greek hebrew hp8 keybcs2"
        b" koi8r koi8u latin1 latin2 latin5 latin7 macce macroman tis620 euckr gb2312 ujis eucjpms"
    )
    .decode()
    .split()
)


def bytes_of(charset: str) -> Bytes:
    if charset in _UTF8:
        return Bytes.UTF8
    return Bytes.SINGLE if charset in _SINGLE else Bytes.DOUBLE


_BESIDE_A_BACKSLASH = pattern(rb"[\x80-\xff]\\|\\[\x80-\xff]")
# A string whose backslashes escape, and one whose backslashes do not. Two quotes inside it make it two strings side by
# side, which is the same to us.
_STRING = rb"'[^'\\]*+(?:\\.[^'\\]*+)*+'"
_PLAIN_STRING = rb"'[^']*+'"
_NUMBER = rb"\d++(?:\.\d++)?(?:[eE][-+]?\d++)?(?![\w$.])"

_TOKENS = rb"""
    (?P<space> [ \t-\r]++ | --(?=[\x01-\x20\x7f]|\Z)[^\n]*+ | \#[^\n]*+ | /\*(?!!|\+|[Mm]!)(?:[^*]++|\*(?!/))*+\*/ )
  | (?P<word> [\w\x80-\xff][\w$\x80-\xff]*+ )
  | (?P<name> `[^`]*+` | "[^"\\]*+(?:\\[^"][^"\\]*+)*+" )
  | (?P<literal> \? | %s )
  | (?P<system> @@[\w$.]++ )
  | (?P<variable> @(?!@)[\w$.]*+ )
  | (?P<open> \( )
  | (?P<other> [-+*%%<>=!&|^~,.);] | /(?!\*) | := )
  | (?P<unknown> . )
"""


class Lexer:
    """The rules for one kind of character set, with or without NO_BACKSLASH_ESCAPES."""

    def __init__(self, kind: Bytes, *, escapes: bool) -> None:
        string = _STRING if escapes else _PLAIN_STRING
        self._kind = kind
        # Begins with one set of bytes, which the regex engine searches for fastest. Each literal takes with it the
        # list of literals that it begins: lists of any length are read alike.
        self._literals = pattern(
            rb"['0-9](?:(?<=')" + string[1:] + rb"|(?<=\d)(?<![\w$]\d)" + _NUMBER.replace(rb"\d++", rb"\d*+", 1) + rb")"
            rb"(?:\s*+,\s*+(?:" + string + rb"|-?" + _NUMBER + rb"|NULL(?![\w$.])))*+",
            re.S,
        )
        self._token = pattern(_TOKENS % string, re.S | re.X)

    def skeleton(self, text: bytes) -> bytes | None:
        """`text` with `?` in the place of strings and numbers; None where that cannot be told.

        True of the text only where `tokens` finds no `?` in a comment or a quoted name of the skeleton: then all
        that was replaced began outside of those, and the server cuts the rest of both texts alike.
        """
        if self._kind is not Bytes.UTF8 and not text.isascii():
            if self._kind is Bytes.DOUBLE and _BESIDE_A_BACKSLASH.search(text):
                return None
            ascii_only = True
        else:
            ascii_only = False
        if text.endswith(b"\\"):
            return None
        # The quote at the end closes a string that the text leaves open, so that no search for an end is in vain
        # (which would take quadratic time); where it is left over, every string was closed.
        found = self._literals.sub(LITERAL, text + b"'")
        if not found.endswith(b"'") or found.find(b"'") != len(found) - 1:
            return None
        found = found[:-1]
        if b"),(" in found or b"), (" in found:
            found = _ROWS.sub(b"(?)", found)
        if ascii_only and not found.isascii():
            return None
        return found

    def tokens(self, text: bytes, *, skeleton: bool = False) -> list[bytes] | None:
        """What the text consists of, comments and white space left out: words in lower case, `NAME`, `LITERAL`,
        `OPEN` or `OPEN_APART`, `VARIABLE`, `@@name`, and operators, byte by byte.

        None: it cannot be told, or `text` is a `skeleton` that is not true.
        """
        found: list[bytes] = []
        if b"\0" in text or (self._kind is not Bytes.UTF8 and not text.isascii()):
            return None
        apart = True
        for match in self._token.finditer(text):
            kind = match.lastgroup
            if kind == "unknown":
                return None
            if kind == "space":
                if skeleton and LITERAL in match.group():
                    return None
                apart = True
                continue
            if kind == "word":
                found.append(match.group().lower())
            elif kind == "name":
                if skeleton and LITERAL in match.group():
                    return None
                found.append(NAME)
            elif kind == "literal":
                found.append(LITERAL)
            elif kind == "open":
                found.append(OPEN_APART if apart else OPEN)
            elif kind == "variable":
                found.append(VARIABLE)
            else:
                found.append(match.group().lower())
            apart = False
        return found


# Rows of literals: a list of rows of any length is read alike.
_ROWS = pattern(rb"\((?:NULL|-?\?|\s|,)++\)(?:\s*+,\s*+\((?:NULL|-?\?|\s|,)++\))++")
