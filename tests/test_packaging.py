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


NAMESAKES = ["pymysql_pool-0.3.7", "pymysql_pooling-1.0.6", "pymysqlpool_dd-0.1.4"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("namesake", NAMESAKES)
def test_the_first_pool_warns_of_a_package_that_has_the_same_import_name(
    wheel: Path, tmp_path: Path, namesake: str
) -> None:
    target = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    script = "import warnings; warnings.simplefilter('error'); import pymysqlpool; print(pymysqlpool.__file__)"

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(target)!r}); {script}"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=60,
        )

    make = f"{script}; pymysqlpool.ConnectionPool()"
    alone = run(make)
    assert alone.returncode == 0, alone.stderr
    assert str(target) in alone.stdout
    (target / "PyMysqlPool-1.0.9.dist-info").mkdir()  # another spelling, so another name
    (target / f"{namesake}.dist-info").mkdir()
    assert run(script).returncode == 0, "an import asks nothing"
    both = run(make)
    assert both.returncode != 0
    name = namesake.replace("_", "-").replace("-1", " 1").replace("-0", " 0")
    assert f"{name} is installed beside pymysqlpool-web" in both.stderr
    assert f"pip uninstall {name.split()[0]}" in both.stderr
