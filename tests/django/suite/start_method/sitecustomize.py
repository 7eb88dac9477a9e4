"""Python imports this at its start where `run.py` has put it on the path: the start method of worker processes."""

from __future__ import annotations

import multiprocessing
import os

multiprocessing.set_start_method(os.environ["SUITE_START_METHOD"], force=True)
