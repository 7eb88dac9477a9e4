"""Names of statements in traces: a short summary, and the text without literal values.

`summary` follows the OpenTelemetry semantic conventions for `db.query.summary`: the operations and what they work on,
in the order of the text, without values, so that equal statements have equal names ("SELECT item JOIN"-like words are
left out; "INSERT orders SELECT basket" stays). `sanitized` is for `db.query.text`: each literal is replaced by `?`.

Both read `LOOKED_AT` characters at most: what follows are values nearly always, and a statement may be megabytes of
them. Approximate on purpose. Never: decides anything about a session.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST_SUMMARY = 255  # characters, as the convention asks
LOOKED_AT = 4096  # characters of a statement

# No two branches begin alike, and none repeats inside a repetition: each character is looked at once.
_GRAMMAR = r"""(?P<space>\s++|--(?=\s)[^\n]*+|\#[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/)?)
    |(?P<string>{strings})
    |(?P<number>0[xX][0-9a-fA-F]++|0[bB][01]++|\d++(?:\.\d*+)?(?:[eE][-+]?\d++)?)
    |(?P<name>`(?:[^`]|``)*+`?|[^\W\d][\w$]*+)
    |(?P<other>.)"""
_TOKEN, _TOKEN_NO_BACKSLASH_ESCAPES = (
    re.compile(_GRAMMAR.format(strings=strings), re.VERBOSE | re.DOTALL)
    for strings in (
        r"""'(?:[^'\\]|\\.|'')*+'?|"(?:[^"\\]|\\.|"")*+"?""",
        r"""'(?:[^']|'')*+'?|"(?:[^"]|"")*+"?""",
    )
)

_OPERATION_WORDS = """
    SELECT INSERT UPDATE DELETE REPLACE CALL CREATE ALTER DROP TRUNCATE LOAD SHOW SET USE BEGIN START
    COMMIT ROLLBACK SAVEPOINT RELEASE DO EXPLAIN ANALYZE DESCRIBE DESC WITH TABLE VALUES LOCK UNLOCK
    GRANT REVOKE KILL PREPARE EXECUTE DEALLOCATE RENAME OPTIMIZE CHECK HANDLER XA FLUSH RESET
"""
_OPERATIONS = frozenset(_OPERATION_WORDS.split())
_NESTED = frozenset({"SELECT"})  # operations that are named again inside a statement
_BEFORE_TARGET = frozenset({"FROM", "JOIN", "INTO", "UPDATE", "TABLE", "CALL", "TRUNCATE", "DATABASE", "VIEW", "INDEX"})
_BETWEEN = frozenset(
    {"IF", "NOT", "EXISTS", "LOW_PRIORITY", "IGNORE", "TEMPORARY", "TABLE", "QUICK", "DELAYED", "HIGH_PRIORITY", "ONLY"}
)
_NO_TARGET = _OPERATIONS | {"SET", "WHERE", "VALUES", "DUAL", "LATERAL", "ON", "KEY", "OUTFILE", "DUMPFILE"}


def describe(sql: str, backslash_escapes: bool = True) -> tuple[str, str]:
    """Return a statement's operation (`db.operation.name`) and its summary; two empty strings if there is none.

    Args:
        backslash_escapes: whether a backslash in a string quotes what follows; no under NO_BACKSLASH_ESCAPES.
    """
    operation = ""
    words: list[str] = []
    expects_target = False
    at_name = False  # the last token was a target, which a dot may go on with
    after_dot = False
    for found in _tokens(sql, backslash_escapes):
        kind = found.lastgroup
        if kind == "space":
            continue
        token = found.group()
        if kind != "name":
            after_dot = at_name and token == "."
            at_name = at_name and after_dot
            expects_target = False
            continue
        word = token.upper()
        if after_dot:
            words[-1] += f".{token.strip('`')}"
            after_dot = False
            at_name = True
            continue
        at_name = False
        if not operation:
            if word not in _OPERATIONS:
                return "", ""
            operation = word
            words.append(word)
        elif word in _NESTED:
            words.append(word)
        elif expects_target and word not in _NO_TARGET and word not in _BETWEEN:
            words.append(token.strip("`"))
            at_name = True
        expects_target = word in _BEFORE_TARGET or (expects_target and word in _BETWEEN)
    return operation, " ".join(words)[:LONGEST_SUMMARY]


def sanitized(sql: str, backslash_escapes: bool = True) -> str:
    """Return the statement with `?` for each literal, and without comments; `...` stands for the rest of a long one.

    Args:
        backslash_escapes: as for `describe`.
    """
    parts = []
    for found in _tokens(sql, backslash_escapes):
        kind = found.lastgroup
        if kind == "string" or kind == "number":
            parts.append("?")
        elif kind == "space":
            parts.append(" ")
        else:
            parts.append(found.group())
    if len(sql) > LOOKED_AT:
        parts.append(" ...")
    return "".join(parts).strip()


def _tokens(sql: str, backslash_escapes: bool) -> Iterator[re.Match[str]]:
    return (_TOKEN if backslash_escapes else _TOKEN_NO_BACKSLASH_ESCAPES).finditer(sql[:LOOKED_AT])
