"""Every option that a pool takes by name, with its type: for type checkers and editors.

Owns: the types of the options. Their meaning is in `settings.Settings` and in PyMySQL's documentation; what is checked
when a program runs is in `settings` and `_util/arguments`. Never: imported by a program that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ssl import SSLContext
from typing import Any, Literal, TypedDict

from .secrets import Secret

__all__ = ["AllOptions", "ClusterOptions", "ConnectOptions", "PoolOptions"]

ResetMode = Literal["auto", "always", "never"]
DeadlockMode = Literal["warn", "raise"]
RoleWanted = Literal["any", "ready", "primary", "replica"]
Hook = Callable[..., None]


class ConnectOptions(TypedDict, total=False):
    """The arguments of `pymysql.connect()`, with their types."""

    host: str | Callable[[], str] | None
    port: int | Callable[[], int]
    user: str | bytes | Callable[[], str] | None
    password: str | bytes | Secret | Callable[[], str | bytes] | None
    database: str | bytes | None
    unix_socket: str | bytes | None
    charset: str
    collation: str | None
    sql_mode: str | None
    read_default_file: str | None
    read_default_group: str | None
    conv: Mapping[Any, Any] | None
    use_unicode: bool
    client_flag: int
    cursorclass: type[Any]
    init_command: str | bytes | None
    connect_timeout: float
    read_timeout: float | None
    write_timeout: float | None
    autocommit: object  # any truth value; None: the server's own
    local_infile: bool
    max_allowed_packet: int
    defer_connect: bool
    auth_plugin_map: Mapping[Any, Any] | None
    bind_address: str | None
    binary_prefix: bool
    program_name: str | None
    server_public_key: bytes | None
    ssl: SSLContext | Mapping[str, Any] | None
    ssl_ca: str | None
    ssl_cert: str | None
    ssl_disabled: bool | None
    ssl_key: str | None
    ssl_key_password: str | bytes | Secret | None
    ssl_verify_cert: bool | None
    ssl_verify_identity: bool | None
    compress: None
    named_pipe: None
    passwd: str | bytes | Secret | Callable[[], str | bytes] | None
    db: str | bytes | None


class PoolOptions(ConnectOptions, total=False):
    """The options of `ConnectionPool` beside its first five, by name only; `Settings` says what each means."""

    max_uses: int | None
    timeout: float | None
    max_idle: float | None
    keepalive: float | None
    background: bool
    max_waiting: int | None
    pre_ping: bool | float
    reset: ResetMode
    reset_timeout: float
    pipeline_reset: bool | None
    fast_reader: bool
    role: RoleWanted
    role_check: float
    track_commits: bool
    tcp_user_timeout: float | None
    allow_cleartext_password: bool
    fail_fast: bool
    deadlock: DeadlockMode
    record_stacks: bool
    on_connect: Hook | None
    on_checkout: Hook | None
    on_checkin: Hook | None
    on_discard: Hook | None


class ClusterOptions(PoolOptions, total=False):
    """The options of `Cluster` for its pools."""

    size: int | None
    maxsize: int
    pre_create_num: int
    con_lifetime: float | None
    reuse_policy: Any


class AllOptions(ClusterOptions, total=False):
    """All that `ConnectionPool` takes."""

    name: str | None
