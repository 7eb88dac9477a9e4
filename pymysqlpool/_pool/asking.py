"""Ask the server something on an idle connection: is it there, and is it still the one that is wanted?

Never: takes longer than its deadline, or decides what follows from the answer.
"""

from __future__ import annotations

from time import monotonic

from pymysql import err

from .._driver.wire import Wire
from ..errors import WrongRole
from ..failures import LOST, SILENT, WRONG_ROLE, News
from .core import PoolCore

# A check asks on a connection that may be dead, and a new one may take 2 ms: so it takes a part of the time at most.
_SHARE = 0.25
_LONGEST = 1.0  # seconds
SHORTEST_CHECK = 0.05  # seconds, that a call which does not want to wait takes too
LONG_ENOUGH = 0.2  # seconds in which a healthy server answers a ping; less time than that proves nothing


def time_for_check(core: PoolCore, now: float, deadline: float, checks_until: float) -> float:
    """Until when (monotonic) a call that ends at `deadline`, and checks nothing after `checks_until`, asks on one
    connection."""
    longest = min(_LONGEST, core._connect_args.get("read_timeout") or _LONGEST)
    return min(now + min(longest, max(SHORTEST_CHECK, (deadline - now) * _SHARE)), checks_until)


def ask(core: PoolCore, wire: Wire, deadline: float, about_role: bool = False) -> News | None:
    """Ask on the quiet `wire`, before `deadline` (monotonic). None, or what was wrong.

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
