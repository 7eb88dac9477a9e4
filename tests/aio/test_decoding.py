"""How long a loop decodes in one turn, whatever number of sessions and tasks ask for it."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from pymysqlpool._async import decoding

STEP = 0.0004  # seconds


def test_replies_and_tasks_share_one_slice_of_each_turn_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    now, turn = 1.0, 0
    spent: Counter[int] = Counter()  # steps by turn of the loop
    monkeypatch.setattr(decoding, "monotonic", lambda: now)

    def step() -> None:
        nonlocal now
        now += STEP
        spent[turn] += 1

    class Reply:
        left = 20

        def decode(self) -> None:
            step()
            self.left -= 1
            if self.left:
                turns.add(self, loop)

    async def convert() -> None:
        for _ in range(20):
            while turns.is_over(loop):
                await asyncio.sleep(0)
            step()

    def arrive() -> None:
        """A reply comes in each turn, while the slice may be used up already."""
        if turns.is_over(loop):
            turns.add(Reply(), loop)
        else:
            Reply().decode()

    async def main() -> None:
        nonlocal turn, loop, turns
        loop = asyncio.get_running_loop()
        turns = decoding.turns_of(loop)
        tasks = [asyncio.create_task(convert()) for _ in range(10)]
        for number in range(400):
            turn += 1
            if number < 10:
                loop.call_soon(arrive)
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert not turns.queue

    loop: asyncio.AbstractEventLoop
    turns: decoding.Turns
    asyncio.run(main())
    assert spent.total() == 10 * 20 + 10 * 20
    most = max(spent.values())
    assert most * STEP <= 2 * decoding._SLICE, f"{most} steps in one turn"
