"""What a user installs: the built wheel, its three packages, nothing else; and a warning beside the old package."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return next(folder.glob("*.whl"))


@pytest.mark.timeout(300)
def test_the_wheel_has_the_three_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "pymysqlpool",
        "pymysqlpool_flask",
        "pymysqlpool_django",
    }
    for package in ("pymysqlpool", "pymysqlpool_flask", "pymysqlpool_django"):
        assert f"{package}/py.typed" in names
    assert not [name for name in names if name.endswith((".so", ".pyd", ".c"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.timeout(300)
def test_the_installed_wheel_imports_and_says_when_the_old_package_is_there_too(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    script = "import warnings; warnings.simplefilter('error'); import pymysqlpool; print(pymysqlpool.__file__)"

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(target)!r}); {script}"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=60,
        )

    alone = run()
    assert alone.returncode == 0, alone.stderr
    assert str(target) in alone.stdout
    old = target / "pymysql_pool-0.3.7.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: pymysql-pool\nVersion: 0.3.7\n")
    both = run()
    assert both.returncode != 0
    assert "pymysql-pool 0.3.7" in both.stderr
    assert "pip uninstall pymysql-pool" in both.stderr
