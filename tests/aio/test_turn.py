"""The turns of the tasks that use one connection."""

from __future__ import annotations

import asyncio

from pymysqlpool._async.turn import Turn


async def two_in_the_queue() -> tuple[Turn, asyncio.Task[None], asyncio.Task[None], list[str]]:
    """A turn that is taken, two tasks that wait for it, and the list of those that have had it."""
    turn, served = Turn(), []

    async def use(name: str) -> None:
        async with turn:
            served.append(name)

    assert turn.take()
    first, second = asyncio.create_task(use("first")), asyncio.create_task(use("second"))
    await asyncio.sleep(0)  # both are in the queue
    return turn, first, second, served


def test_a_task_that_is_cancelled_in_the_queue_for_a_turn_is_passed_over() -> None:
    async def main() -> None:
        turn, first, second, served = await two_in_the_queue()
        first.cancel()
        await asyncio.wait([first])
        turn.leave()
        await second
        assert (served, turn.locked()) == (["second"], False)

    asyncio.run(main())


def test_a_turn_that_arrives_at_the_moment_of_the_cancellation_is_passed_on() -> None:
    async def main() -> None:
        turn, first, second, served = await two_in_the_queue()
        turn.leave()  # to the first, which has not run since
        first.cancel()
        await asyncio.wait([first, second])
        assert (first.cancelled(), served, turn.locked()) == (True, ["second"], False)

    asyncio.run(main())
