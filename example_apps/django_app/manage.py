"""Django's command line for this site: `python -m example_apps.django_app.manage migrate`."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_apps.django_app.settings")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
