"""The door to the connection that a pool lends: see `_pool/lease.py`."""

from __future__ import annotations

from ._pool.lease import Connection

__all__ = ["Connection"]
