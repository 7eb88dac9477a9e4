"""Names of statements in traces: a short summary, and the text without literal values.

`summary` follows the OpenTelemetry semantic conventions for `db.query.summary`: the operations and what they work on,
in the order of the text, without values, so that equal statements have equal names ("SELECT item JOIN"-like words are
left out; "INSERT orders SELECT basket" stays). `sanitized` is for `db.query.text`: each literal is replaced by `?`.

Linear in the length of the text, and approximate on purpose. Never: decides anything about a session.
"""

from __future__ import annotations

import re

LONGEST_SUMMARY = 255  # characters, as the convention asks
_LOOKED_AT = 4096  # characters of a statement; what follows are values nearly always

# No two branches begin alike, and none repeats inside a repetition: each character is looked at once.
_TOKEN = re.compile(
    r"""(?P<space>\s++|--(?=\s)[^\n]*+|\#[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/)?)
    |(?P<string>'(?:[^'\\]|\\.|'')*+'?|"(?:[^"\\]|\\.|"")*+"?)
    |(?P<number>0[xX][0-9a-fA-F]++|0[bB][01]++|\d++(?:\.\d*+)?(?:[eE][-+]?\d++)?)
    |(?P<name>`(?:[^`]|``)*+`?|[^\W\d][\w$]*+)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
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


def describe(sql: str) -> tuple[str, str]:
    """Return a statement's operation (`db.operation.name`) and its summary; two empty strings if there is none."""
    operation = ""
    words: list[str] = []
    expects_target = False
    at_name = False  # the last token was a target, which a dot may go on with
    after_dot = False
    for found in _TOKEN.finditer(sql[:_LOOKED_AT]):
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


def sanitized(sql: str) -> str:
    """Return the statement with `?` for each literal, and without comments."""
    parts = []
    for found in _TOKEN.finditer(sql):
        kind = found.lastgroup
        if kind == "string" or kind == "number":
            parts.append("?")
        elif kind == "space":
            parts.append(" ")
        else:
            parts.append(found.group())
    return "".join(parts).strip()
