"""Detect other installed distributions with the import name `pymysqlpool`.

`pymysql-pool` installs a module of our name, `pymysql-pooling` and `pymysqlpool-dd` a package: they overwrite our files
or lose theirs to ours, by the order of installation. (`PyMysqlPool` is spelt differently and does not clash.)

Owns: the question, asked once, when the first pool is made, so that an import does not pay for it.
Never: imports or changes another distribution.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from contextlib import suppress
from functools import cache

from .late import pattern

_NAMESAKE = pattern(r"(pymysql[-_.]pool(?:ing)?|pymysqlpool[-_.]dd)-([^-]+?)(?:-py[\d.]+)?\.(?:dist|egg)-info$", re.I)


@cache
def warn_of_namesakes() -> None:
    """Warn once, with the way out, when a distribution of the same import name is installed beside this one."""
    for folder in dict.fromkeys(sys.path):
        with suppress(OSError):
            for entry in os.listdir(folder or "."):
                if found := _NAMESAKE.match(entry):
                    name = re.sub("[_.]", "-", found[1].lower())
                    warnings.warn(
                        f"{name} {found[2]} is installed beside pymysqlpool-web, and both are imported as "
                        f"`pymysqlpool`; remove the old one: pip uninstall {name}, then "
                        "pip install --force-reinstall --no-deps pymysqlpool-web",
                        stacklevel=3,
                    )
