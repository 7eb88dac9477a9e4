"""The ASGI lifespan protocol: runs start and end callbacks around the application's own lifespan, or in place of it.

Never: opens or closes a pool itself; the middleware passes the callbacks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .messages import Application, Message, Receive, Scope, Send

_ENDS = ("lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed")


async def live(
    app: Application,
    scope: Scope,
    receive: Receive,
    send: Send,
    start: Callable[[], Awaitable[None]],
    end: Callable[[], Awaitable[None]],
) -> None:
    """Run the lifespan of `app`, or a minimal one if the application has none.

    Args:
        start: called before the application starts; an exception from it stops the server.
        end: called after the application has ended, with or without an error.
    """
    begun = failed = False

    async def receiving() -> Message:
        nonlocal begun, failed
        begun = True
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await start()
            except Exception as error:
                failed = True
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                raise
        return message

    async def sending(message: Message) -> None:
        nonlocal begun
        begun = True
        if message["type"] in _ENDS:
            await end()
        if not failed:
            await send(message)

    try:
        try:
            await app(scope, receiving, sending)
        except Exception:
            if begun:
                raise
        if not begun:
            await _of_an_application_without_one(receiving, sending)
    except Exception:
        if not failed:  # otherwise the server has already been informed
            raise


async def _of_an_application_without_one(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
