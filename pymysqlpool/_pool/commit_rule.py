"""The words of `transaction="request"`, for every adapter.

Never: commits, decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

TransactionMode = Literal["request"] | None
Headers = Sequence[tuple[str, str]]
CommitVeto = Callable[[int, Headers, BaseException | None], bool]

# The safe methods of RFC 9110, which `transaction_on_get=False` excludes from commits.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
