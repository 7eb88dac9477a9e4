"""The messages that the package can give a user, read from its source; nothing is imported.

Owns: what counts as a message: the literal text of what is raised, built as an error, or logged above DEBUG. Never:
decides where it has to be documented.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PACKAGES = ("pymysqlpool", "pymysqlpool_flask", "pymysqlpool_django")

# Words of others, as their own documentation has them, and signs between two files of ours.
NOT_OURS = {
    "pymysqlpool/__init__.py": "Python's, of a missing attribute",
    "pymysqlpool/aiomysql.py": "aiomysql's",
    "pymysqlpool/_util/record.py": "those of Python's frozen dataclasses",
    "pymysqlpool/_util/lock.py": "a sign",
    "pymysqlpool/_driver/protocol/rows.py": "a sign",
    "pymysqlpool/_pool/spent_lease.py": "Python's, of a missing attribute",
}
# Errors of cleaning a session: the connection is discarded, the debug log says why, and no caller gets them.
UNSEEN = {"pymysqlpool/_driver/reset.py", "pymysqlpool/_driver/renewal.py", "pymysqlpool/_async/cleaner.py"}

_ERRORS = re.compile(r"(?<!Assertion)(Error|Parameter|Configured|Warning)$|^Pool[A-Z]")
_ERRORS = re.compile(r"(?<!Assertion)(Error|Parameter|Configured|Warning)$|^Pool[A-Z]")
_SPEAKERS = {"_refuse", "refuse", "warn", "warning", "log", "_say"}
_SHORTEST, _ENOUGH = 12, 45  # characters of a piece that can be looked for


class Message(NamedTuple):
    place: str
    pieces: tuple[str, ...]  # the longer ones of those between the values, their first words

    def is_on(self, page: str) -> bool:
        """Whether a reader who looks for these words finds them."""
        return any(piece in page for piece in self.pieces)


def messages() -> Iterator[Message]:
    """Every message, with file and line."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            name = str(file.relative_to(ROOT))
            if name in NOT_OURS or name in UNSEEN:
                continue
            for node in ast.walk(ast.parse(file.read_text())):
                for text in _texts(node):
                    words = (" ".join(piece.split()).strip(" :;,.'(")[:_ENOUGH].strip() for piece in _pieces(text))
                    pieces = tuple(piece for piece in words if len(piece) >= _SHORTEST)
                    if pieces:
                        yield Message(f"{name}:{text.lineno}", pieces)


def _texts(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2]
        if name in _SPEAKERS or _ERRORS.search(name):
            return [part for argument in node.args for part in _alternatives(argument)]
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("text", "_LATE_WRITE"):
        return _alternatives(node.value)
    return []


def _alternatives(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.IfExp):
        return [*_alternatives(node.body), *_alternatives(node.orelse)]
    return [node]


def _pieces(node: ast.expr) -> list[str]:
    if isinstance(node, ast.JoinedStr):
        text = "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = re.sub(r"%[-.\d]*[srdf]", "\0", node.value)
    else:
        return []
    return text.split("\0")
