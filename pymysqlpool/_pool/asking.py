"""Check an idle connection with the server: does it answer, and does it still have the wanted role?

Owns: the time that a check may take. Never: takes longer than its deadline, or decides what follows from the answer.
"""

from __future__ import annotations

from time import monotonic

from pymysql import err

from .._driver.wire import Wire
from ..errors import WrongRole
from ..failures import LOST, SILENT, WRONG_ROLE, News
from .core import PoolCore

# The checked connection may be dead and a new one takes about 2 ms, so a check may use only a part of the call's time.
_SHARE = 0.25
_LONGEST = 1.0  # seconds
SHORTEST_CHECK = 0.05  # seconds; granted even to a call that does not want to wait
LONG_ENOUGH = 0.2  # seconds within which a healthy server answers a ping; a shorter wait proves nothing


def time_for_check(core: PoolCore, now: float, deadline: float, checks_until: float) -> float:
    """Return when (monotonic) a call must stop checking one connection. The call ends at `deadline`, and checks nothing
    after `checks_until`."""
    longest = min(_LONGEST, core._connect_args.get("read_timeout") or _LONGEST)
    return min(now + min(longest, max(SHORTEST_CHECK, (deadline - now) * _SHARE)), checks_until)


def ask(core: PoolCore, wire: Wire, deadline: float, about_role: bool = False) -> News | None:
    """Check the quiet `wire`, before `deadline` (monotonic). Return None, or the error.

    Args:
        about_role: ask for the server's role instead of a ping; at the same price.
    """
    recipe = core._connector.recipe
    probe = wire.borrow_privately()
    try:
        with probe.within(deadline):
            if about_role and recipe is not None:
                recipe.ask_server(probe)
            else:
                probe.ping(reconnect=False)
    except WrongRole:
        return WRONG_ROLE
    except err.MySQLError:
        return SILENT if monotonic() >= deadline else LOST
    finally:
        wire.take_back(probe)
    return None
