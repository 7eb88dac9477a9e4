"""How a session can be cleaned, from the cheapest to the last resort.

Owns: these names, which the verdict (`reuse.py`) needs without all that carries it out (`reset.py`). Never: decides.
"""

from __future__ import annotations

from enum import Enum


class Cleanup(Enum):
    NOTHING = "nothing"
    ROLLBACK = "rollback"
    SET = "set"
    RESET = "reset"
    CLOSE = "close"
