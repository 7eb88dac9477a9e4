"""The house, read from the source: which file may import which. `test_private_names` reads whose names are used.

Every import counts, those under `TYPE_CHECKING` and the late ones too: a type is knowledge. A file that needs a little
of another that stands above it declares a small protocol for it instead.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pymysqlpool", "pymysqlpool_flask", "pymysqlpool_django")

# Floors, the lowest first: what stands on a floor imports from its own and from those below. A wing is a folder.
FLOORS = (
    {"_util", "errors", "secrets", "devserver"},
    {"settings", "stats", "failures", "options"},
    {"_driver"},
    {"reuse"},
    {"_pool"},
    {"connection", "refusals", "advice"},
    {"transaction"},
    {"request_scope", "carried_commits"},
    {"pool"},
    {"former"},
    {"_async"},
    {"aio"},
    {"aiomysql"},
    {"asyncmy"},
    {"health", "_routing"},
    {"cluster", "metrics"},
    {"_observe"},
    {"_web"},
    {"wsgi", "asgi", "testing", "otel", "prometheus", "sqlalchemy", "status"},
    {"sqlalchemy_aio"},
    {"pytest_plugin"},
    {"_cli"},
    {"__main__"},
)
FLOOR_OF = {name: level for level, names in enumerate(FLOORS) for name in names}

# PyMySQL's private names, which the driver wing alone may touch.
PYMYSQLS_OWN = {
    "_sock",
    "_rfile",
    "_result",
    "_next_seq_id",
    "_read_packet",
    "_read_bytes",
    "_write_bytes",
    "_execute_command",
    "_read_query_result",
    "_read_ok_packet",
    "_affected_rows",
    "_read_timeout",
    "_write_timeout",
    "_current_timeout",
    "_create_ssl_ctx",
    "_local_infile",
    "_force_close",
}
LONGEST = 350  # lines of a file; the throwaway server excepted


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def dotted(path: Path) -> str:
    """The module's name: `pymysqlpool._pool.ledger`."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


ALL = {dotted(path): path for package in PACKAGES for path in modules(package)}


@cache
def imports(path: Path) -> set[str]:
    """Absolute dotted names of all that the module imports, wherever it does."""
    package = ".".join(path.relative_to(ROOT).parts[:-1])
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base]).rstrip(".")
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in ALL else base for alias in node.names}
    return found | {module for module, _ in late_names(path)}


def late_names(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of each import that waits for the first pool, see `_util/late.py`; an empty name for a module."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "late.names":
            package, *wanted = [each.value for each in node.args if isinstance(each, ast.Constant)]
            for module, _, names in (text.partition(":") for text in wanted):
                yield from ((f"{package}.{module}", name) for name in names.split(","))


def own_imports(path: Path) -> set[str]:
    """Those of the three packages' files."""
    return {name for name in imports(path) if name in ALL and name != dotted(path)}


@cache
def names_in(path: Path) -> set[str]:
    """The names that the module binds, and those in `__all__` or under `TYPE_CHECKING` that it binds when asked."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return found


def own_names(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of each import from the three packages; an empty name for `import module`."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] in PACKAGES)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*parents, *filter(None, [node.module])])
            if base.split(".")[0] in PACKAGES:
                yield from ((base, alias.name) for alias in node.names)
    yield from late_names(path)


def test_every_import_names_a_file_of_this_tree() -> None:
    """mypy alone is not enough: it looks for a missing module in the other places of its search path, and finds the
    removed file in another copy of the package that is installed there."""
    wrong = [
        f"{module} imports {name or 'it'} from {base}"
        for module, path in ALL.items()
        for base, name in own_names(path)
        if base not in ALL or (name and f"{base}.{name}" not in ALL and name not in names_in(ALL[base]))
    ]
    assert not wrong


def room(module: str) -> str:
    """The wing or the door that a module of the core is in."""
    return module.split(".")[1] if "." in module else ""


def test_core_arrows_point_down() -> None:
    core = [module for module in ALL if module.startswith("pymysqlpool.")]
    assert not {room(module) for module in core} - set(FLOOR_OF), "these have no floor yet: give them one here"
    wrong = [
        f"{module} imports {imported}, which is above it"
        for module in core
        for imported in own_imports(ALL[module])
        if room(imported) and FLOOR_OF[room(imported)] > FLOOR_OF[room(module)]
    ]
    assert not wrong


def test_no_files_import_each_other_in_a_circle() -> None:
    arrows = {module: own_imports(path) for module, path in ALL.items()}
    for package in PACKAGES:
        arrows[package] = set()  # a package's own file only shows what is in it
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module not in done:
            for imported in sorted(arrows[module]):
                walk(imported, (*way, module))
            done.add(module)

    for module in arrows:
        walk(module, ())


# The doors that belong to a wing: they may use its private attributes.
WING_OF_DOOR = {
    "pool": "_pool",
    "connection": "_pool",
    "aio": "_async",
    "sqlalchemy": "_sqlalchemy",
    "sqlalchemy_aio": "_sqlalchemy",
    "aiomysql": "_async",
    "asyncmy": "_async",
    "wsgi": "_web",
    "asgi": "_web",
    "request_scope": "_web",
}


def wing(module: str) -> str:
    package, _, _ = module.partition(".")
    return WING_OF_DOOR.get(room(module), room(module)) if package == "pymysqlpool" else package


def test_each_lock_free_step_on_the_idle_stack_is_written_once() -> None:
    """The steps under the lock are the ledger's. The stack has no second name, which would hide a step."""

    def is_stack(expression: ast.expr | None) -> bool:
        return isinstance(expression, ast.Attribute) and expression.attr == "idle"

    nodes = [(module, node) for module, path in ALL.items() for node in ast.walk(tree_of(path))]
    bound = ast.Assign | ast.AnnAssign | ast.NamedExpr
    assert not [module for module, node in nodes if isinstance(node, bound) and is_stack(node.value)]
    found = [
        f"{module}: {node.attr}"
        for module, node in nodes
        if isinstance(node, ast.Attribute) and node.attr in ("pop", "append") and is_stack(node.value)
    ]
    steps = "first_step: pop", "idle_lease: append", "ledger: append", "ledger: pop"
    assert sorted(found) == [f"pymysqlpool._pool.{step}" for step in steps]


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    lengths = {module: len(path.read_text().splitlines()) for module, path in ALL.items() if path.stem != "devserver"}
    too_long = {module: length for module, length in lengths.items() if length > LONGEST}
    assert not too_long, "which question leaves?"


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_imports_an_adapter_and_flask_and_django_never_meet(package: str) -> None:
    forbidden = {
        "pymysqlpool": {"pymysqlpool_flask", "pymysqlpool_django", "flask", "django", "werkzeug"},
        "pymysqlpool_flask": {"pymysqlpool_django", "django"},
        "pymysqlpool_django": {"pymysqlpool_flask", "flask", "werkzeug"},
    }[package]
    for path in modules(package):
        for imported in imports(path):
            assert imported.split(".")[0] not in forbidden, f"{path} imports {imported}"


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_an_adapter_uses_public_names_only(package: str) -> None:
    for path in modules(package):
        for imported in imports(path):
            parts = imported.split(".")
            if parts[0] == "pymysqlpool":
                assert not any(part.startswith("_") for part in parts), f"{path} imports {imported}"


def test_pymysqls_private_names_appear_in_the_driver_wing_only() -> None:
    for module, path in ALL.items():
        if wing(module) == "_driver":
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Attribute):
                used = node.attr
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                used = node.value
            else:
                continue
            assert used not in PYMYSQLS_OWN, f"{module} touches {used}"


def test_every_module_has_a_header() -> None:
    assert not [module for module, path in ALL.items() if not ast.get_docstring(tree_of(path))]
