"""TLS: a session is resumed where it was verified, and only there."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql
import pytest

from benchmarks.bench import write_certificate
from pymysqlpool._driver.tls import SharedContexts, demands_of
from pymysqlpool.devserver import DevServer
from pymysqlpool.secrets import Secret
from tests.conftest import MakePool


@dataclass
class Host:
    server: DevServer
    certificate: str

    def arguments(self, version: ssl.TLSVersion) -> dict[str, Any]:
        """For a connection whose server must prove that it is 127.0.0.1."""
        context = ssl.create_default_context(cafile=self.certificate)
        context.minimum_version = context.maximum_version = version
        return {**self.server.connect_args, "ssl": context, "ssl_disabled": False, "database": None}


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    pytest.importorskip("cryptography")
    certificate, key = write_certificate(tmp_path_factory.mktemp("tls"))
    options = [f"--ssl-cert={certificate}", f"--ssl-key={key}", f"--ssl-ca={certificate}"]
    with DevServer(binary=request.config.getoption("--server"), options=options) as server:
        yield Host(server, str(certificate))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
def test_the_second_connection_resumes_the_session_of_the_first(
    make_pool: MakePool, host: Host, version: ssl.TLSVersion
) -> None:
    arguments = host.arguments(version)
    pool = make_pool(size=3, maxsize=3, **arguments)
    lent = [pool.get_connection(timeout=20) for _ in range(3)]
    assert [connection._sock.session_reused for connection in lent] == [False, True, True]
    for number, connection in enumerate(lent):
        with connection.cursor() as cursor:
            cursor.execute("select %s, @@session.autocommit", (number,))
            assert cursor.fetchone() == (number, 0)
            cursor.execute("show status like 'Ssl_version'")
            assert cursor.fetchone()[1].replace("v1.", "v1_") == version.name
        assert connection.ctx is arguments["ssl"], "what PyMySQL's users find there"
    pool.drain()
    for connection in lent:
        connection.close()
    with pool.get_connection(timeout=20) as connection:
        assert not connection._sock.session_reused, "a drain forgets sessions too"


def test_another_host_name_is_verified_although_the_session_would_do(make_pool: MakePool, host: Host) -> None:
    """The certificate is for 127.0.0.1; "localhost" is the same server."""
    name = "127.0.0.1"
    options = {**host.arguments(ssl.TLSVersion.TLSv1_3), "host": lambda: name}
    pool = make_pool(size=2, maxsize=2, **options)
    first = pool.get_connection(timeout=20)
    name = "localhost"
    with pytest.raises(pymysql.err.OperationalError, match="certificate"):
        pool.get_connection(timeout=3)
    name = "127.0.0.1"
    second = pool.get_connection(timeout=20)
    assert second._sock.session_reused
    first.close()
    second.close()


def test_a_handshake_that_fails_with_a_session_is_made_without_one_next(
    make_pool: MakePool, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a server that verifies clients and has set no session id context."""
    pool = make_pool(size=2, maxsize=2, **host.arguments(ssl.TLSVersion.TLSv1_3))
    first = pool.get_connection(timeout=20)
    wrap = ssl.SSLContext.wrap_socket
    asked: list[bool] = []

    def refuse_sessions(context: ssl.SSLContext, *arguments: Any, session: Any = None, **named: Any) -> ssl.SSLSocket:
        asked.append(session is not None)
        if session is not None:
            raise ssl.SSLError("session id context uninitialized")
        return wrap(context, *arguments, session=session, **named)

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", refuse_sessions)
    second = pool.get_connection(timeout=20)
    assert asked == [True, False]
    first.close()
    second.close()


def test_a_context_that_is_made_stricter_verifies_the_next_connection(make_pool: MakePool, host: Host) -> None:
    arguments = host.arguments(ssl.TLSVersion.TLSv1_3)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    pool = make_pool(size=2, maxsize=2, **{**arguments, "ssl": context})
    first = pool.get_connection(timeout=20)
    context.verify_mode = ssl.CERT_REQUIRED
    with pytest.raises(pymysql.err.OperationalError):
        pool.get_connection(timeout=3)
    context.load_verify_locations(host.certificate)
    second = pool.get_connection(timeout=20)
    assert not second._sock.session_reused
    first.close()
    second.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda context: setattr(context, "verify_mode", ssl.CERT_OPTIONAL),
        lambda context: setattr(context, "verify_flags", context.verify_flags | ssl.VERIFY_CRL_CHECK_LEAF),
        lambda context: setattr(context, "check_hostname", False),
        lambda context: setattr(context, "maximum_version", ssl.TLSVersion.TLSv1_2),
        lambda context: setattr(context, "hostname_checks_common_name", False),
    ],
)
def test_whatever_a_context_demands_anew_is_seen(change: Any) -> None:
    context = ssl.create_default_context()
    before = demands_of(context)
    assert demands_of(context) == before
    change(context)
    assert demands_of(context) != before


def test_a_renewed_authority_on_disk_counts_from_the_next_connection_on(
    make_pool: MakePool, host: Host, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    stranger, _ = write_certificate(tmp_path / "other")
    authority = tmp_path / "ca.pem"
    shutil.copy(host.certificate, authority)
    options = {**host.arguments(ssl.TLSVersion.TLSv1_3), "ssl_ca": str(authority), "ssl_verify_identity": True}
    options["ssl_verify_cert"] = True  # what ssl_verify_identity alone does not ask for in PyMySQL 1.1
    del options["ssl"]
    pool = make_pool(size=3, maxsize=3, **options)
    lent = [pool.get_connection(timeout=20) for _ in range(2)]
    assert [connection._sock.session_reused for connection in lent] == [False, True]
    shutil.copy(stranger, authority)
    with pytest.raises(pymysql.err.OperationalError):
        pool.get_connection(timeout=3)
    shutil.copy(host.certificate, authority)
    lent.append(pool.get_connection(timeout=20))
    assert not lent[2]._sock.session_reused
    for connection in lent:
        connection.close()


def test_a_context_is_made_again_only_when_a_file_of_it_changed(tmp_path: Path) -> None:
    made: list[Any] = []

    def create(wanted: Any) -> ssl.SSLContext:
        made.append(wanted)
        return ssl.create_default_context()

    contexts = SharedContexts()
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_text("first")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "one").write_text("first")
    wanted = {name: str(tmp_path / name) for name in ("ca", "cert", "key")}
    wanted["capath"] = str(tmp_path / "folder")
    first = contexts.of(wanted, create)
    assert contexts.of(dict(wanted), create) is first
    for changed in ("ca", "cert", "key", "folder/one"):
        (tmp_path / changed).write_text("the second")
        assert contexts.of(wanted, create) is not first
        first = contexts.of(wanted, create)
    assert len(made) == 5
    assert contexts.of({**wanted, "password": Secret("secret")}, create) is not first
    assert "secret" not in repr(vars(contexts))
