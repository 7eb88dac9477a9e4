"""`Response`: what becomes of one HTTP response between an application and its server.

Owns: whether the head was sent, and whether the response was replaced by a 503. Never: commits, returns a connection,
or writes a head; its middleware does, in `_send_carefully`.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from .async_scope import AsyncRequestScope
from .messages import Message, Send


class Response:
    """The response to one request. Its `send` is the application's."""

    __slots__ = ("_is_watched", "_middleware", "begun", "committing", "method", "replaced", "request", "sending")

    def __init__(
        self, middleware: Any, request: AsyncRequestScope, method: str, sending: Send, is_watched: bool
    ) -> None:
        """`is_watched`: the middleware sees every message, not only the head of a 500."""
        self._middleware = middleware
        self._is_watched = is_watched
        self.request = request
        self.method = method
        self.sending = sending  # the server's `send`
        self.begun = False  # the head was sent, or is being sent
        self.replaced = False  # by a 503: what the application sends is dropped
        self.committing = False  # True also after a failed COMMIT: it may have taken effect, so a 503 would be wrong

    def send(self, message: Message) -> Awaitable[None]:
        """Returns what to await. No coroutine: nearly every message goes to the server as it is."""
        if not self._is_watched and not self.replaced:
            if self.begun:
                return self.sending(message)
            if (
                message["type"] == "http.response.start"
                and message["status"] != 500
                and self.request.transaction is None
            ):
                self.begun = True
                return self.sending(message)
        return self._middleware._send_carefully(self, message)  # type: ignore[no-any-return]
