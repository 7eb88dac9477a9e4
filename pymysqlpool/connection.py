"""The public import path of `Connection`, which a pool lends: see `_pool/lease.py`."""

from __future__ import annotations

from ._pool.lease import Connection

__all__ = ["Connection"]
