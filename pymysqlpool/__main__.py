"""`python -m pymysqlpool`: ask a server from the command line. See `_cli/`."""

from ._cli import main

if __name__ == "__main__":
    raise SystemExit(main())
