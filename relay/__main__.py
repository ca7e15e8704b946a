"""`python -m relay` is the command `relay`."""

import sys

from relay.cli.main import main as command


def main() -> None:
    """The entry point of the installed command."""
    sys.exit(command())


if __name__ == "__main__":
    main()
