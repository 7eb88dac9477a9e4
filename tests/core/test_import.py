"""What an import and a first borrow load: command line tools and cold starts pay for all of it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import pickle
import subprocess
import sys
import typing
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import pymysqlpool
from pymysqlpool._util import late
from pymysqlpool.devserver import DevServer
from pymysqlpool.reuse import Decision, Verdict
from pymysqlpool.settings import Settings

# Prints what each step loads: PyMySQL (without `cryptography`, which is not always there), this package, its pool, a
# borrow.
PROGRAM = """
import json, sys
sys.modules["cryptography"] = None
import pymysql
steps = [set(sys.modules)]
import pymysqlpool
steps.append(set(sys.modules))
pymysqlpool.ConnectionPool
steps.append(set(sys.modules))
pool = pymysqlpool.ConnectionPool(**json.loads(sys.argv[1]))
steps.append(set(sys.modules))
with pool.get_connection() as connection, connection.cursor() as cursor:
    cursor.execute("SELECT %s", ("x",))
    assert cursor.fetchall() == (("x",),)
steps.append(set(sys.modules))
pool.close()
steps.append(set(sys.modules))
print(json.dumps([sorted(after - before) for before, after in zip(steps, steps[1:])]))
"""
DOORS = {"errors", "failures", "pool", "reuse", "secrets", "settings"}
WINGS = {"_util", "_driver", "_pool"}
# Parts of these wings that a first borrow does not need: for asyncio, for several hosts, for reports.
NOT_NEEDED = {
    "_driver.steps",
    "_driver.observed",
    "_pool.for_clusters",
    "_pool.for_loops",
    "_pool.extra_session",
    "_pool.cut",
    "_pool.cost",
    "_util.url",
}
MOST = 26  # files for the class of a pool; each costs 0.1 to 0.5 ms
MOST_OF_A_POOL = 98  # with those that the first pool loads

# Of the standard library: a lock, and its own imports. `typing` costs as much as a dozen of our files.
FOREIGN = {"threading", "atexit", "weakref", "_weakrefset"}
# What is loaded with the first pool.
FOREIGN_OF_A_POOL = {
    *("encodings", "stringprep", "unicodedata", "logging", "string"),
    *("bisect", "contextvars", "mmap", "typing", "math", "select"),  # the last two, like `mmap`, are of C
}


@cache
def loaded(options: str) -> list[list[str]]:
    run = subprocess.run([sys.executable, "-c", PROGRAM, options], capture_output=True, text=True, check=True)
    steps: list[list[str]] = json.loads(run.stdout)
    return steps


@pytest.fixture
def steps(server: DevServer) -> list[list[str]]:
    return loaded(json.dumps(server.connect_args))


def written_for_others(names: list[str]) -> set[str]:
    """The modules of the standard library among them, without those that are a part of the interpreter."""
    own = ("_", "pymysqlpool", "importlib")
    return {name.split(".")[0] for name in names if not name.startswith(own)} - set(sys.builtin_module_names)


def test_an_import_loads_nothing_else(steps: list[list[str]]) -> None:
    assert steps[0] == ["pymysqlpool"]


def test_the_pool_loads_what_a_first_borrow_needs(steps: list[list[str]]) -> None:
    ours = {name.removeprefix("pymysqlpool.") for name in steps[1] if name.startswith("pymysqlpool")}
    assert {name for name in ours if name.split(".")[0] not in WINGS} == DOORS
    assert not ours & NOT_NEEDED
    assert len(ours) < MOST


def test_the_pool_loads_little_of_the_standard_library(steps: list[list[str]]) -> None:
    """Modules of C cost next to nothing; `dataclasses`, `inspect`, `asyncio` and the like cost milliseconds."""
    assert written_for_others(steps[1]) <= FOREIGN


def test_a_borrow_and_the_end_of_the_pool_load_nothing_more(steps: list[list[str]]) -> None:
    """An import in the middle of a borrow would be at the mercy of signals: one that comes while the codec of host
    names is loaded, and connects too, would find no codec. So it is loaded when the pool is made."""
    making, borrow, closing = steps[2:]
    ours = {name.removeprefix("pymysqlpool.") for name in making if name.startswith("pymysqlpool")}
    assert written_for_others(making) <= FOREIGN_OF_A_POOL
    assert not ours & NOT_NEEDED
    assert {name.split(".")[0] for name in ours} <= WINGS | {"stats"}
    assert len(ours) + sum(name.startswith("pymysqlpool") for name in steps[1]) < MOST_OF_A_POOL
    assert borrow == []
    assert closing == []


def test_every_public_name_is_there_when_it_is_asked_for() -> None:
    script = """
import sys, pymysqlpool
assert set(dir(pymysqlpool)) >= {*pymysqlpool.__all__, "errors", "settings"}, dir(pymysqlpool)
assert pymysqlpool.errors.PoolError is pymysqlpool.PoolError and "logging" not in sys.modules
assert not hasattr(pymysqlpool, "no_such_name")
from pymysqlpool import *
assert all(globals()[name] is getattr(pymysqlpool, name) for name in pymysqlpool.__all__)
assert ConnectionPool is pymysqlpool.pool.ConnectionPool and connect is Connection
from importlib import import_module
assert all(import_module(f"pymysqlpool.{name}") is getattr(pymysqlpool, name) for name in pymysqlpool._MODULES)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


class _Names(ast.NodeVisitor):
    """The names that a module imports for type checkers only, and those that its code reads when it runs."""

    def __init__(self, module: ast.Module) -> None:
        self.for_types: set[str] = set()
        self.read: set[str] = set()
        self.visit(module)

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for inside in node.body:
                if isinstance(inside, ast.ImportFrom):
                    self.for_types |= {name.asname or name.name for name in inside.names}
                elif isinstance(inside, ast.ClassDef):
                    self.for_types.add(inside.name)
            for inside in node.orelse:
                self.visit(inside)
        else:
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        pass  # its annotation

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        node.returns = None
        self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_Name(self, node: ast.Name) -> None:
        self.read.add(node.id)


@pytest.mark.parametrize("wing", ["", "_util", "_driver", "_pool"])
def test_no_code_that_runs_reads_a_name_that_only_type_checkers_know(wing: str) -> None:
    """Where `late.names` brings a name, type checkers are told of it beside that; the two lists must agree."""
    late.load()
    for path in sorted((Path(pymysqlpool.__path__[0]) / wing).glob("*.py")):
        names = _Names(ast.parse(path.read_text()))
        wanted = names.for_types & names.read
        if wanted:
            module = import_module(".".join(["pymysqlpool", *filter(None, [wing]), path.stem]))
            assert wanted <= vars(module).keys(), path


def test_tools_can_look_up_the_annotations_of_a_pool() -> None:
    """As those do that inject dependencies."""
    pool = pymysqlpool.ConnectionPool()
    for name in ("get_connection", "give_back", "owns", "stats", "borrowers", "events", "resize", "drain", "close"):
        assert "return" in typing.get_type_hints(getattr(pool, name))


class TestRecordsAreDataclassesThatCostNothingToImport:
    def test_the_functions_of_dataclasses_take_them(self) -> None:
        settings = Settings(size=3)
        assert dataclasses.is_dataclass(settings)
        assert dataclasses.replace(settings, size=4).size == 4
        assert dataclasses.asdict(Decision(Verdict.KEEP))["verdict"] is Verdict.KEEP
        assert list(inspect.signature(Decision).parameters) == [field.name for field in dataclasses.fields(Decision)]

    def test_they_compare_show_and_pickle_as_their_fields_do(self) -> None:
        decision = Decision(Verdict.KEEP, ask_siblings=True)
        assert decision == Decision(Verdict.KEEP, None, False, True) != Decision(Verdict.KEEP)
        assert hash(decision) == hash(Decision(Verdict.KEEP, None, False, True))
        assert repr(decision).startswith("Decision(verdict=<Verdict.KEEP")
        assert repr(decision).endswith("expire_generation=False, ask_siblings=True)")
        assert pickle.loads(pickle.dumps(decision)) == decision
        match decision:
            case Decision(verdict, _, _, asks):
                assert (verdict, asks) == (Verdict.KEEP, True)

    def test_they_cannot_be_changed(self) -> None:
        decision: Any = Decision(Verdict.KEEP)
        with pytest.raises(AttributeError, match="verdict"):
            decision.verdict = Verdict.RESET
        with pytest.raises(AttributeError, match="verdict"):
            del decision.verdict

    @pytest.mark.parametrize(
        ("values", "named"),
        [((), {}), ((Verdict.KEEP,), {"verdict": Verdict.KEEP}), ((Verdict.KEEP,), {"resaon": None}), ((1,) * 5, {})],
    )
    def test_wrong_arguments_are_a_type_error_as_of_any_function(
        self, values: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        with pytest.raises(TypeError, match="argument"):
            Decision(*values, **named)
