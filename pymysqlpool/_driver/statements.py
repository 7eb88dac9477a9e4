"""What a statement may do to its session, read from its text, conservatively.

Owns: the marks, and the short list of shapes of statements that are known to be harmless. Never: knows a connection,
or how a text is cut into tokens (`lexer`).

`Reader.read` returns the marks below. `NOTHING` means: the text was understood to its last byte, and the reply shows
every effect on the session (transaction and autocommit in the status flags, LAST_INSERT_ID in the OK packet, variables
and prepared statements in the session tracker). Everything that the reply cannot show, or that this file does not know
to be harmless, is `STATE`: the session must be reset before another borrower gets it. A false alarm costs a round trip,
a miss would cost privacy; so unknown is always `STATE`.

The text cannot show stored code behind a harmless name: a view or a trigger that calls GET_LOCK(), a
column whose default is the next value of a sequence. `reset="always"` is for databases that have such.

Sources: MySQL 9 Reference Manual, "SQL Statements" (15) and "Functions and Operators" (14); MariaDB Knowledge Base,
"SQL Statements".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from .._util.late import pattern
from .lexer import OPEN, OPEN_APART, VARIABLE, Bytes, Lexer, bytes_of
from .native_functions import KEYWORDS, TYPES, native_functions
from .server_version import server_version

# The marks. Plain integers, not an IntFlag: they are combined on every statement, and IntFlag's operators are slow.
NOTHING: Final = 0
TRANSACTION: Final = 1  # one may be open
INSERT_ID: Final = 2  # LAST_INSERT_ID() may be set
AUTOCOMMIT: Final = 4  # autocommit is changed, and nothing else
DATABASE: Final = 8  # the current database may be another
WROTE: Final = 32  # rows were changed in the open transaction; nothing to undo beyond that
# a READ ONLY transaction was asked for; nothing to undo, and error 1792 says nothing about the server
READ_ONLY: Final = 256
STATE: Final = 16  # anything else: only COM_RESET_CONNECTION brings it back

_UNTOLD: Final = -1  # by the skeleton; the text itself tells

LONGEST_READ: Final = 64 * 1024  # bytes; a longer statement is not read: a reset is cheap beside sending it
_LONGEST_CUT: Final = 8 * 1024  # bytes, without its literals
_CACHED_STATEMENTS: Final = 1024
_CACHED_LENGTH: Final = 512  # bytes

# Statements that are read token by token: their effects show in the reply, unless a token hides another one.
_QUERIES = frozenset(b"select with values table show describe desc explain update delete insert replace do".split())
# Those of whole statements, as tokens with a blank between them.
_NAME = rb"(?:`|[a-z_\x80-\xff][\w$\x80-\xff]*+)"
_KIND_OF_TRANSACTION = rb"(?: with consistent snapshot| read only| read write)"
_TRANSACTION_CONTROL = pattern(
    rb"begin(?: work)?"
    rb"|start transaction(?:" + _KIND_OF_TRANSACTION + rb"(?: ," + _KIND_OF_TRANSACTION + rb")*+)?"
    rb"|(?:commit|rollback)(?: work)?(?: and(?: no)? chain)?(?: no release)?"
    rb"|rollback(?: work)? to(?: savepoint)? " + _NAME + rb"|(?:release )?savepoint " + _NAME
)
_SET_AUTOCOMMIT = pattern(
    rb"set (?:(?:session |local )?autocommit|@@(?:session\.|local\.)?autocommit) :?= (?:\?|on|off|true|false)"
)
_USE = pattern(rb"use " + _NAME)
_LONGEST_SHAPE = 16  # tokens
# Definitions of what is no temporary table. One that selects may do all that a SELECT may, and more.
_DEFINITION = pattern(
    rb"(?:create(?: or replace)?(?: unique| fulltext| spatial)? (?:table|index)|alter(?: ignore)? table|truncate"
    rb"|drop (?:table|index)) "
)
_MAKES_ROWS = frozenset((b"select", b"values", b"with"))
# In a definition a name, not a call, stands before the parenthesis after these.
_NAMES_FOLLOW = frozenset(b"table exists key index unique references on".split())
# A common table expression, or the type in a CAST.
_ALIASES_FOLLOW = frozenset(b"with recursive as".split())
_PUNCTUATION = frozenset((*(bytes([byte]) for byte in b"-+*/%<>=!&|^~,()"), OPEN_APART))
# Sequences: NEXT VALUE FOR and PREVIOUS VALUE FOR, and `s.nextval` where sql_mode is ORACLE.
_SEQUENCES = frozenset(b"nextval currval lastval".split())


# A placeholder with nothing beside it that may belong to the same token as a literal; and what is in no template that
# is read: a string, which may have a placeholder in it, an escape, or another placeholder.
_PLACEHOLDER = pattern(r"(?<![^ \t\r\n(,=<>])%s(?![^ \t\r\n),;])")
_UNFIT_TEMPLATE = pattern(r"['\\%]")


def _is_a_literal_for_a_name(token: bytes, following: bytes) -> bool:
    """Whether a literal stands for the name of what is called, or for a part of it."""
    return (token == b"?" and following in (OPEN, OPEN_APART, b".")) or (token == b"." and following == b"?")


class Reader:
    """Reads the statements of the sessions that have one kind of character set, with one kind of server."""

    def __init__(self, kind: Bytes, functions: frozenset[bytes], *, escapes: bool = True) -> None:
        self._lexer = Lexer(kind, escapes=escapes)
        self._functions = functions
        self._effects: dict[bytes, int] = {}  # of texts; dicts are shared by threads, each step on them is atomic
        self._skeletons: dict[bytes, int] = {}  # the same, of texts without their literals
        self._templates: dict[str, int] = {}  # the same, of templates that came twice; see `takes_literals`
        self._cuts_literals = kind is Bytes.UTF8 and escapes
        self._unescaping = Reader(kind, functions, escapes=False) if escapes else self

    def read(self, text: bytes, no_escapes: int = 0, harmless: str | None = None) -> int:
        """What `text`, one COM_QUERY, may do to the session beyond what its reply will show.

        `no_escapes`: true when the last reply's status said NO_BACKSLASH_ESCAPES.
        `harmless`: a text of a template for which `takes_literals` was true, perhaps this one.
        """
        if no_escapes:
            return self._unescaping.read(text)
        if (
            harmless is not None
            and len(harmless) <= len(text)
            and self._cuts_literals
            and harmless.encode("utf-8", "surrogatepass") == text
        ):
            return NOTHING
        if type(text) is not bytes:
            text = bytes(text)  # a bytearray when it comes from executemany()
        effect = self._effects.get(text)
        if effect is None:
            effect = self._effect(text)
            if len(text) <= _CACHED_LENGTH:
                _keep(self._effects, text, effect)
        return effect

    def takes_literals(self, template: str) -> bool:
        """Whether `read` returns NOTHING for all texts that are `template` with a literal (see `literals`) in the place
        of each `%s`, as long as backslashes escape.

        The template is read with a `?` in these places, which every literal is cut like: the placeholder stands in no
        string, comment or quoted name, and nothing beside it can become one token with the literal. A literal may be
        several tokens (`-1`, `0.0e0`), so it must not stand where `_judge` looks for a name. False where that cannot be
        told from the template, and where it came for the first time: it may have values in it.
        """
        effect = self._templates.get(template)
        if effect is None:
            if self._cuts_literals and len(template) <= _LONGEST_CUT:
                _keep(self._templates, template, _UNTOLD)
        elif effect == _UNTOLD:
            effect = STATE
            text = _PLACEHOLDER.sub("?", template)
            if not _UNFIT_TEMPLATE.search(text):
                tokens = self._lexer.tokens(text.encode(errors="surrogateescape"), skeleton=True)
                if tokens and tokens[0] in _QUERIES and not any(map(_is_a_literal_for_a_name, tokens, tokens[1:])):
                    effect = self._judge(tokens)
            self._templates[template] = effect
        return effect == NOTHING

    def _effect(self, text: bytes) -> int:
        if len(text) > LONGEST_READ:
            return STATE
        skeleton = self._lexer.skeleton(text)
        if skeleton is not None:
            effect = self._skeletons.get(skeleton)
            if effect is None:
                if len(skeleton) > _LONGEST_CUT:
                    return STATE
                tokens = self._lexer.tokens(skeleton, skeleton=True)
                effect = _UNTOLD if tokens is None else self._judge(tokens)
                _keep(self._skeletons, skeleton, effect)
            if effect != _UNTOLD:
                return effect
        if len(text) > _LONGEST_CUT:
            return STATE
        tokens = self._lexer.tokens(text)
        return STATE if tokens is None else self._judge(tokens)

    def _judge(self, tokens: list[bytes]) -> int:
        while tokens and tokens[-1] == b";":
            tokens.pop()
        start = 0
        while start < len(tokens) and tokens[start] in (OPEN, OPEN_APART):
            start += 1
        if start == len(tokens):
            return STATE
        word = tokens[start]
        if word in _QUERIES:
            effect = self._hidden(tokens)
            if word in (b"insert", b"replace") and b"returning" in tokens:
                effect |= INSERT_ID  # MariaDB: the reply is a result set, which carries no insert id
            return effect
        if word == b"analyze" and tokens[1:2] == [b"table"]:
            return self._hidden(tokens)
        if start == 0:
            begin = b" ".join(tokens[:_LONGEST_SHAPE])
            if len(tokens) <= _LONGEST_SHAPE:
                if _TRANSACTION_CONTROL.fullmatch(begin):
                    return READ_ONLY if b" read only" in begin else NOTHING
                if _SET_AUTOCOMMIT.fullmatch(begin):
                    return AUTOCOMMIT
                if _USE.fullmatch(begin):
                    return DATABASE
            if _DEFINITION.match(begin + b" ") and not _MAKES_ROWS.intersection(tokens):
                return self._hidden(tokens, definition=True)
        return STATE

    def _hidden(self, tokens: list[bytes], definition: bool = False) -> int:
        """STATE when a token of a harmless kind of statement may hide an effect that the reply does not show."""
        effect = NOTHING
        before = b""
        for at, token in enumerate(tokens):
            if token in (OPEN, OPEN_APART):
                if before == b"last_insert_id" and token == OPEN and tokens[at - 2] != b".":
                    if tokens[at + 1 : at + 2] != [b")"]:
                        effect = INSERT_ID
                elif self._calls(tokens, at, definition):
                    return STATE
            elif token == VARIABLE or token == b";" or token in _SEQUENCES or (token == b"for" and before == b"value"):
                return STATE
            before = token
        return effect

    def _calls(self, tokens: list[bytes], at: int, definition: bool) -> bool:
        """Whether what stands before the parenthesis at `at` may be a call of stored code."""
        name = tokens[at - 1] if at else b"("
        if name in _PUNCTUATION:
            return False
        first = at - 1
        while first > 1 and tokens[first - 1] == b".":
            first -= 2
        named_by = tokens[first - 1] if first else b""
        if named_by == b"into" or (definition and named_by in _NAMES_FOLLOW):
            return False  # the columns of a table
        if first < at - 1:
            return True  # with its database's name, which no native function has
        if name == b"against" and named_by == b")":
            return False  # of MATCH (...) AGAINST (...); elsewhere it may be a function's name
        if named_by in _ALIASES_FOLLOW or name in KEYWORDS or (definition and name in TYPES):
            return False
        return name not in self._functions or tokens[at] == OPEN_APART


ReadStatement = Callable[[bytes, int, str | None], int]  # `Reader.read`, or in its place


def read_as_anything(text: bytes, no_escapes: int = 0, harmless: str | None = None) -> int:
    """What a statement may do when neither the character set nor the server is known."""
    return STATE


@cache
def reader_for(charset: str, greeting: str) -> Reader:
    """The reader of the statements of a connection with this character set, to a server that says this version.

    Of a character set or a server that is not known, few statements are harmless.
    """
    return _reader(bytes_of(charset), native_functions(*server_version(greeting)))


_reader = cache(Reader)


def _keep(cache: dict[Any, int], key: Any, effect: int) -> None:
    if len(cache) >= _CACHED_STATEMENTS:
        cache.clear()
    cache[key] = effect
