"""multiprocessing, by the start method named as the first argument: four children, and two that are kept for more."""

from __future__ import annotations

import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from tests.core.prefork.parent import Parent, ask, make_pool

pool = make_pool()


def answer(_: int) -> dict[str, Any]:
    return ask(pool)


def put(queue: multiprocessing.Queue[dict[str, Any]]) -> None:
    queue.put(ask(pool))


if __name__ == "__main__":
    parent = Parent(pool)
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    children = [context.Process(target=put, args=(queue,)) for _ in range(4)]
    for child in children:
        child.start()
    answers = [queue.get(timeout=30) for _ in children]
    for child in children:
        child.join()
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        answers += executor.map(answer, range(20))
    parent.look_after_the_children()
    json.dump([{**told, "before": parent.sessions} for told in answers], sys.stdout)
