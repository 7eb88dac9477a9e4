"""What a visitor has committed travels with the visitor, if the application wants that: see `carried_commits`.

Never: signs with a key that the application did not choose.
"""

from __future__ import annotations

from typing import Any

from flask import Flask, current_app
from flask.wrappers import Request

from pymysqlpool import ConnectionPool
from pymysqlpool.carried_commits import CarriedCommits, CommitCookie
from pymysqlpool.request_scope import RequestScope
from pymysqlpool.secrets import Secret

from .config import ConfigError


class Carrier:
    """Of one application. Args: its option `carry_commits`, which is set."""

    def __init__(self, given: CarriedCommits | bool) -> None:
        self._made = given if isinstance(given, CarriedCommits) else None

    def receive(self, scope: RequestScope, primary: ConnectionPool, request: Request) -> None:
        """Have the new `scope` of a request read what its visitor has written before."""
        carries = self.of(current_app)
        carries.receive(scope, primary, request.headers.get(carries.request_header))

    def response_header(self, scope: RequestScope, primary: ConnectionPool) -> tuple[str, str] | None:
        """The header for the response to the request of `scope`, which has ended its transaction."""
        return self.of(current_app).response_header(scope, primary)

    def of(self, app: Flask) -> CarriedCommits:
        """What carries. A cookie of our own is made at the first use, when the application has its key.

        Raises:
            ConfigError: it has none, or one that is too short.
        """
        if self._made is None:
            self._made = _cookie(app)
        return self._made


def _cookie(app: Flask) -> CommitCookie:
    keys = [Secret(key) for key in (app.secret_key, *(app.config.get("SECRET_KEY_FALLBACKS") or ())) if key]
    if not keys:
        raise ConfigError("carry_commits=True signs by the application's secret_key, and it has none")
    said: dict[str, Any] = {
        "secure": app.config["SESSION_COOKIE_SECURE"],
        "same_site": (app.config["SESSION_COOKIE_SAMESITE"] or "Lax").title(),  # Flask takes any case
        "path": app.config["SESSION_COOKIE_PATH"] or app.config["APPLICATION_ROOT"],
        "domain": app.config["SESSION_COOKIE_DOMAIN"] or None,
    }
    try:
        return CommitCookie(keys, **said)
    except ValueError as error:
        raise ConfigError(f"carry_commits=True, by secret_key and as the session cookie: {error}") from None
