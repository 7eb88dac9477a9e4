"""Are other distributions installed that bring the import name `pymysqlpool`?

`pymysql-pool` installs a module and `pymysqlpool` a package of our name: which one Python then imports depends on the
order of installation and of sys.path, so it is said as soon as this one is imported.
"""

from __future__ import annotations

import warnings
from importlib import metadata

_NAMESAKES = ("pymysql-pool", "pymysqlpool")


def warn_of_namesakes() -> None:
    """Warn, with the way out, when a distribution of the same import name is installed beside this one."""
    for name in _NAMESAKES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        warnings.warn(
            f"{name} {version} is installed beside pymysqlpool-web, and both are imported as `pymysqlpool`; "
            f"remove the old one: pip uninstall {name}, then pip install --force-reinstall --no-deps pymysqlpool-web",
            stacklevel=3,
        )
