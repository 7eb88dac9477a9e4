"""`status` and `drain`: show the pools of running processes, and request the renewal of their connections.

Both go through the folder that the processes share (`pymysqlpool.status`). Never: reaches into a process.
"""

from __future__ import annotations

import argparse
import sys
from time import monotonic, sleep

from .. import status as _status

_LOOK = 0.1  # seconds between two checks of the progress


def status(given: argparse.Namespace) -> int:
    print(_status.text(given.folder))
    return 0


def drain(given: argparse.Namespace) -> int:
    asked = _status.ask_for_drain(given.folder, given.pool)
    until = monotonic() + given.timeout
    shown = (-1, -1)
    while True:
        done, number = now = asked.progress()
        if now != shown:
            print(f"{done} of {number} process{'es' * (number != 1)} renew their connections", flush=True)
            shown = now
        if done == number:
            return 0 if number else 1
        if monotonic() >= until:
            print(f"error: {number - done} did not answer within {given.timeout:g} s", file=sys.stderr)
            return 1
        sleep(_LOOK)
