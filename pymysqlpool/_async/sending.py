"""What is left of a statement for which the socket has no room now: sent in pieces, as the server takes them.

Never: reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def send_rest(
    loop: asyncio.AbstractEventLoop,
    descriptor: int,
    send: Callable[[memoryview], int],
    rest: memoryview,
    timeout: float | None,
    watched: Callable[[], object],
) -> None:
    """Send `rest` by `send`, which returns how many bytes the socket took.

    Args:
        timeout: seconds that the socket may take none.
        watched: called each time when the loop watches the descriptor.
    """
    while rest:
        writable = loop.create_future()
        loop.add_writer(descriptor, _finish, writable)
        watched()
        try:
            await asyncio.wait_for(writable, timeout)
        finally:
            loop.remove_writer(descriptor)
        rest = rest[send(rest) :]


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
