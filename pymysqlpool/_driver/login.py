"""A server's request alone never makes the client send its password in clear text over the network.

A server, or whatever answers in its place, may ask for the password itself: by the plugin `mysql_clear_password`, or
the `dialog` of PAM. MySQL's own clients refuse unless they are told to (ENABLE_CLEARTEXT_PLUGIN); PyMySQL answers. Here
the password is sent over TLS or a unix socket, where the user has an `auth_plugin_map` for the plugin, and with the
option `allow_cleartext_password`.

The TLS contexts of a login are shared by the connections of a pool (`tls`).

Owns: when a password may be sent in clear text. Never: judges other plugins; those send something that does not reveal
the password.

Source: MySQL 9 Reference Manual, 8.4.1.4, "Client-Side Cleartext Pluggable Authentication".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymysql import err
from pymysql.constants import CR

from ..secrets import conceal
from .pymysql_names import PyMySQLConnection

if TYPE_CHECKING:
    from .tls import SharedContexts

_CLEAR_TEXT = frozenset({b"mysql_clear_password", b"dialog"})


class LoginConnection(PyMySQLConnection):
    """PyMySQL's connection, which may refuse to send its password."""

    _sends_clear_text = True  # for a pool's connections: the option's value
    _tls_contexts: SharedContexts | None = None  # of a pool's connections

    def _create_ssl_ctx(self, sslp: Any) -> Any:
        contexts = self._tls_contexts
        if contexts is None:
            return super()._create_ssl_ctx(sslp)
        if isinstance(sslp, dict):
            sslp = conceal(sslp)
        return contexts.of(sslp, super()._create_ssl_ctx)

    def _process_auth(self, plugin_name: bytes, auth_packet: Any, *handler: Any) -> Any:
        if plugin_name in _CLEAR_TEXT and not (self._secure or self._sends_clear_text or self._has_own(plugin_name)):
            raise err.OperationalError(
                CR.CR_AUTH_PLUGIN_CANNOT_LOAD,
                f"the server at {self.host}:{self.port} asks for the password in clear text (plugin "
                f"{plugin_name.decode('ascii', 'replace')!r}), and the connection is not encrypted: it was not sent. "
                "Use TLS (ssl_ca=..., ssl_verify_identity=True), or allow_cleartext_password=True if you trust the "
                "network and the server",
            )
        return super()._process_auth(plugin_name, auth_packet, *handler)

    def _has_own(self, plugin_name: bytes) -> bool:
        return plugin_name in self._auth_plugin_map or plugin_name.decode() in self._auth_plugin_map
