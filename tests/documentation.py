"""Runs the code blocks of the documentation against the test server.

Owns: how a Markdown page becomes a program. The Python blocks of a page run in order and share one namespace, as a
reader would type them; a block may `await`. Tracebacks name page and line. HTML comments before a block say more:

    <!-- not run: why -->       the next block is shown only (a reason is required)
    <!-- apart -->              the next block begins with an empty namespace
    <!-- python                 code that runs and is not shown: preparations before a block, assertions after it
    assert ...
    -->

The examples connect as `me`, password `secret`, to the database `shop` on 127.0.0.1; `prepare_shop` makes these on a
test server, and `Page.run` adds its port. Never: decides which pages are tested.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pymysqlpool.devserver import DevServer

ROOT = Path(__file__).parent.parent

_PART = re.compile(
    r"^<!--[ ]*not[ ]run:(?P<reason>[^>]*)-->[ ]*\n"
    r"|^(?P<apart><!--[ ]*apart[ ]*-->)[ ]*\n"
    r"|^<!--[ ]python[ ]*\n(?P<hidden>.*?)^-->"
    r"|^(?P<fence>`{3,})\{?(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^(?P=fence)[ ]*$",
    re.M | re.S,
)

SCHEMA = (
    "CREATE DATABASE IF NOT EXISTS shop CHARACTER SET utf8mb4",
    "CREATE USER IF NOT EXISTS 'me'@'%' IDENTIFIED BY 'secret'",
    "CREATE USER IF NOT EXISTS 'me'@'localhost' IDENTIFIED BY 'secret'",
    "GRANT ALL ON shop.* TO 'me'@'%'",
    "GRANT ALL ON shop.* TO 'me'@'localhost'",
    "DROP TABLE IF EXISTS shop.item, shop.account",
    "CREATE TABLE shop.item (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(60), stock INT NOT NULL DEFAULT 0)",
    "INSERT INTO shop.item (id, name, stock) VALUES (7, 'net', 3), (8, 'rod', 5)",
    "CREATE TABLE shop.account (id INT PRIMARY KEY, balance INT NOT NULL)",
    "INSERT INTO shop.account VALUES (1, 100), (2, 0)",
)


@dataclass(frozen=True)
class Block:
    """A piece of code on a page."""

    line: int
    code: str
    language: str
    shown: bool
    apart: bool
    not_run: str | None  # the reason


class Page:
    """A Markdown page and its blocks."""

    def __init__(self, path: Path | str) -> None:
        self.path = ROOT / path
        self.text = self.path.read_text()

    def blocks(self, language: str = "python") -> Iterator[Block]:
        reason: str | None = None
        apart = False
        for part in _PART.finditer(self.text):
            if part["reason"] is not None:
                reason = part["reason"].strip()
            elif part["apart"]:
                apart = True
            else:
                shown = part["hidden"] is None
                group = "code" if shown else "hidden"
                line = self.text.count("\n", 0, part.start(group))
                if not shown or part["language"] == language:
                    yield Block(line, part[group], language, shown, apart, reason if shown else None)
                    apart = False
                if shown:
                    reason = None

    def run(self, server: DevServer, **names: Any) -> dict[str, Any]:
        """Run the page's Python blocks from the first to the last; returns the names they leave."""
        namespace = self._module(names)
        try:
            with asyncio.Runner() as runner:
                for block in self.blocks():
                    if block.not_run is not None:
                        continue
                    if block.apart:
                        namespace = self._module(names)
                    source = "\n" * block.line + with_port(block.code, server.port)
                    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
                    result = eval(compile(source, str(self.path), "exec", flags=flags, dont_inherit=True), namespace)
                    if inspect.iscoroutine(result):
                        runner.run(result)
        finally:
            sys.modules.pop("__docs__", None)  # the pools of the page's applications end with their module
        return namespace

    def _module(self, names: dict[str, Any]) -> dict[str, Any]:
        """The names of a new module, which libraries that evaluate annotations find by its name."""
        module = sys.modules["__docs__"] = ModuleType("__docs__")
        module.__dict__.update(names, __file__=str(self.path))
        return module.__dict__


def with_port(code: str, port: int) -> str:
    """The code with the test server's port beside the host that the documentation names."""
    code = re.sub(r'\bhost="127\.0\.0\.1"', f'host="127.0.0.1", port={port}', code)
    code = re.sub(r'"host": "127\.0\.0\.1"', f'"host": "127.0.0.1", "port": {port}', code)
    code = re.sub(r'"HOST": "127\.0\.0\.1"', f'"HOST": "127.0.0.1", "PORT": "{port}"', code)
    return re.sub(r"@127\.0\.0\.1/", f"@127.0.0.1:{port}/", code)


def prepare_shop(admin: Any) -> None:
    """The account, the database and the tables that the examples use, as new."""
    with admin.cursor() as cursor:
        for statement in SCHEMA:
            cursor.execute(statement)
