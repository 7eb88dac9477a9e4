"""What an alias's settings lead to, remembered until they change.

Django asks at each connect, which a pooled alias has once a request, and a test or a tenant may have changed
`settings_dict` in between: it is compared with a copy, which costs a twentieth of reading it.

Owns: the copy. Never: returns to a caller what it remembers itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymysqlpool.secrets import conceal

from . import options
from .pools import PooledDatabase


class Remembered:
    """
    Attributes:
        isolation_level: as Django has read it from the settings; None for the server's.
        pool: `options.wanted` of the settings; not to be changed.
        leads_to: see `again`; None until a connect has shown it.
    """

    __slots__ = ("_params", "_settings", "_stays_flat", "isolation_level", "leads_to", "pool")

    def __init__(self, wrapper: Any, params: Mapping[str, Any]) -> None:
        """
        Args:
            params: arguments for PyMySQL that Django has made of the settings of `wrapper`.
        """
        self._settings = _copy(wrapper.settings_dict)
        self._params = conceal(params)  # Django's frames hold it while it connects, and tools report their variables
        self._stays_flat = not any(isinstance(value, dict | list) for name, value in params.items() if name != "conv")
        self.isolation_level: str | None = wrapper.isolation_level
        self.pool: Any = options.wanted(wrapper)
        self.leads_to: PooledDatabase | None = None

    def is_of(self, settings: Mapping[str, Any]) -> bool:
        """Return whether the settings are still the same."""
        return bool(self._settings == settings)

    def params(self) -> dict[str, Any]:
        """Return the arguments for PyMySQL, which the caller may change."""
        return dict(self._params) if self._stays_flat else conceal(self._params)


def _copy(value: Any) -> Any:
    """Copy what settings consist of, and leave functions and objects as they are."""
    if isinstance(value, dict):
        return {name: _copy(item) for name, item in value.items()}
    if isinstance(value, list | set):
        return type(value)(_copy(item) for item in value)
    return value
