"""The arrows of the design, read from the source: who may import whom, and who may touch PyMySQL's private names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pymysqlpool", "pymysqlpool_flask", "pymysqlpool_django")

# Lowest first: a module imports only modules of its own layer's left neighbours and of lower layers.
LAYERS = (
    {"_lock", "_log", "errors", "devserver", "_statements", "_borrower", "_fork", "_tls", "_gate"}
    | {"_distribution", "_farewell"},
    {"settings", "stats", "_waiter", "_reader", "_errand", "refusals"},
    {"_wire"},
    {"_ledger", "_session", "_deadlock"},
    {"reuse", "connection"},
    {"_report", "_maintenance", "_connector", "transaction"},
    {"request_scope", "_async_connection"},
    {"pool"},
    {"aio", "health"},
    {"wsgi", "asgi", "testing"},
    {"pytest_plugin"},
)
LAYER_OF = {name: level for level, names in enumerate(LAYERS) for name in names}

PRIVATE_NAMES = {
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
}
# Connection ends the life of a connection without a pool the way PyMySQL does: `__del__ = _force_close`.
PERMITTED = {("pymysqlpool/connection.py", "_force_close")}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Absolute dotted names of what the module imports while running (not only while type checking)."""
    tree = ast.parse(path.read_text())
    package = ".".join(path.relative_to(ROOT).parts[:-1])
    found = set()
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base]).rstrip(".")
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", modules("pymysqlpool"), ids=lambda path: path.name)
def test_core_arrows_point_down(path: Path) -> None:
    name = path.stem
    if name == "__init__":
        return
    assert name in LAYER_OF, f"{name} has no layer yet: give it one here"
    for imported in imports(path):
        parts = imported.split(".")
        if parts[0] != "pymysqlpool" or len(parts) < 2 or parts[1] not in LAYER_OF:
            continue
        assert LAYER_OF[parts[1]] <= LAYER_OF[name], f"{name} imports {parts[1]}, which is above it"


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


def test_pymysqls_private_names_appear_in_the_wire_and_its_reader_only() -> None:
    for package in PACKAGES:
        for path in modules(package):
            relative = path.relative_to(ROOT).as_posix()
            if relative in ("pymysqlpool/_wire.py", "pymysqlpool/_reader.py"):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute):
                    used = node.attr
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    used = node.value
                else:
                    continue
                assert used not in PRIVATE_NAMES or (relative, used) in PERMITTED, f"{relative} touches {used}"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_owns(package: str) -> None:
    for path in modules(package):
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no header"
