"""TLS: a session is resumed where it was verified, and only there."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pymysql
import pytest

from benchmarks.bench import write_certificate
from pymysqlpool.devserver import DevServer
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
