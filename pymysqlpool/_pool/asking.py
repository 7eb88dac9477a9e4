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
