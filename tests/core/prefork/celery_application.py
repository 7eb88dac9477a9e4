"""Celery's prefork pool: the module is imported, and the pool used, before the children are forked.

A child of Celery's ends with `os._exit()`, without atexit handlers or finalizers; `worker_process_shutdown` is where it
can close its sessions in order (COM_QUIT).
"""

from __future__ import annotations

import json
import os
from typing import Any

from celery import Celery, signals

from .parent import Parent, make_pool
from .parent import ask as ask_pool

pool = make_pool()
parent = Parent(pool)
folder = os.environ["FOLDER"]
celery = Celery("prefork", broker="filesystem://")
celery.conf.update(
    broker_transport_options={
        "data_folder_in": f"{folder}/queue",
        "data_folder_out": f"{folder}/queue",
        "control_folder": f"{folder}/control",
    },
    broker_connection_retry_on_startup=False,
)


@celery.task(name="ask", bind=True)
def ask(task: Any) -> None:
    half = f"{folder}/{task.request.id}"
    with open(half, "w") as answer:
        json.dump({**ask_pool(pool), "before": parent.sessions}, answer)
    os.rename(half, f"{folder}/answers/{task.request.id}")


@signals.worker_process_shutdown.connect
def say_goodbye(**_: Any) -> None:
    pool.close(timeout=0)


@signals.worker_shutdown.connect
def ask_again(**_: Any) -> None:
    parent.look_after_the_children()


if __name__ == "__main__":  # before there is a worker: it would read tasks that are half written
    parent.let_go()
    for _ in range(12):
        ask.delay()
