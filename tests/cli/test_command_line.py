"""`python -m pymysqlpool`, as typed."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from pymysqlpool._cli import main


def url(connect_args: dict[str, Any]) -> str:
    user, password = connect_args["user"], connect_args["password"]
    host, port, database = connect_args["host"], connect_args["port"], connect_args["database"]
    return f"mysql://{user}:{password}@{host}:{port}/{database}"


def test_ping_says_what_the_server_is(connect_args: dict[str, Any], capsys: Any) -> None:
    assert main(["ping", url(connect_args)]) == 0
    assert f"{connect_args['host']}:{connect_args['port']} is " in capsys.readouterr().out


def test_a_server_that_is_not_there_is_an_error_and_no_traceback(connect_args: dict[str, Any], capsys: Any) -> None:
    assert main(["ping", "mysql://me:S3cret@127.0.0.1:1/x"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "S3cret" not in said


def test_check_names_what_the_server_is_and_what_to_mend(connect_args: dict[str, Any], capsys: Any) -> None:
    assert main(["check", url(connect_args)]) == 0
    said = capsys.readouterr().out
    for word in ("server", "role", "TLS", "limits", "pool", "mend"):
        assert f"{word} " in said
    assert "a session that was changed is reset and kept" in said


def test_bench_measures_a_borrow_beside_a_plain_connection(connect_args: dict[str, Any], capsys: Any) -> None:
    assert main(["bench", url(connect_args), "--seconds", "0.05"]) == 0
    said = capsys.readouterr().out
    assert "borrow, SELECT 1, return" in said
    assert said.count(" us") + said.count(" ms") == 4


def test_it_runs_as_a_module_and_takes_the_password_from_the_environment(connect_args: dict[str, Any]) -> None:
    server = ["--host", connect_args["host"], "--port", str(connect_args["port"]), "--user", connect_args["user"]]
    done = subprocess.run(
        [sys.executable, "-m", "pymysqlpool", "ping", *server],
        env={**os.environ, "MYSQL_PWD": connect_args["password"] or ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [[], ["no-such"], ["ping", "postgresql://db/x"], ["ping", "mysql://a,b/x"]])
def test_a_wrong_command_line_says_what_would_be_right(arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m pymysqlpool" in capsys.readouterr().err
