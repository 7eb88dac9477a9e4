"""What a case is given: servers, links, addresses, and how long it may take.

Everything is started when first asked for, listens on 127.0.0.1 only, and ends with the `Bench`.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

from pymysqlpool.devserver import DevServer

from . import measure

T = TypeVar("T")
ROOT = Path(__file__).parent.parent


class Bench:
    """The surroundings of one run. Use as a context manager."""

    def __init__(self, quick: bool = False, pin: bool = True) -> None:
        self.quick = quick
        self._pin = pin
        self.was_pinned = False  # whether the current case had client and server on one CPU
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def pick(self, full: T, quick: T) -> T:
        return quick if self.quick else full

    @contextmanager
    def pinned(self, *processes: int | None) -> Iterator[None]:
        """This thread and those processes on one CPU, unless switched off."""
        if not self._pin:
            yield
            return
        with measure.pinned(process for process in processes if process) as could:
            self.was_pinned = could
            yield

    # -- servers -------------------------------------------------------------------------------------------

    def _serve(self, *options: str) -> DevServer:
        return self._stack.enter_context(DevServer(options=["--max-connections=1000", *options]))

    @cached_property
    def server(self) -> DevServer:
        """A server without TLS."""
        return self._serve("--skip-ssl")

    @cached_property
    def tls_server(self) -> DevServer:
        """A server with TLS, whose certificate is the only one that `tls_context` trusts."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pymysqlpool-bench-")))
        certificate, key = write_certificate(folder)
        self.tls_context = ssl.create_default_context(cafile=str(certificate))
        return self._serve(f"--ssl-cert={certificate}", f"--ssl-key={key}", f"--ssl-ca={certificate}")

    @property
    def tcp(self) -> dict[str, Any]:
        """Arguments for PyMySQL: TCP without TLS. PyMySQL's default would read all CA certificates per connect."""
        return {**self.server.connect_args, "ssl_disabled": True}

    @property
    def unix(self) -> dict[str, Any]:
        return {**self.server.socket_args, "ssl_disabled": True}

    @property
    def tls(self) -> dict[str, Any]:
        """The same with TLS and one context for all connections: the best that PyMySQL can do."""
        server = self.tls_server
        return {**server.connect_args, "ssl": self.tls_context}

    @contextmanager
    def link(self, delay: float) -> Iterator[dict[str, Any]]:
        """Arguments for PyMySQL over a link on which each round trip takes `delay` seconds more."""
        command = [sys.executable, "-m", "benchmarks.proxy", self.server.host, str(self.server.port), str(delay)]
        proxy = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert proxy.stdin is not None
        assert proxy.stdout is not None
        try:
            yield {**self.tcp, "port": int(proxy.stdout.readline())}
        finally:
            proxy.stdin.close()
            try:
                proxy.wait(10)
            except subprocess.TimeoutExpired:
                proxy.kill()
                proxy.wait()
            proxy.stdout.close()


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, RSA of 2048 bits as most servers have, for a day."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "cert.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.touch(mode=0o600)
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file
