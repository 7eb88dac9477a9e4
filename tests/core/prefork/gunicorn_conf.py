"""gunicorn's own configuration file: the arbiter asks its sessions again when all its workers have ended."""

from __future__ import annotations

import os
import sys
from typing import Any

preload_app = True
workers = 2
max_requests = 5
graceful_timeout = 5  # seconds; a worker that was just being forked does not hear of the end
control_socket_disable = True


def on_exit(server: Any) -> None:
    sys.modules[os.environ["APPLICATION"]].look_after_the_children()
