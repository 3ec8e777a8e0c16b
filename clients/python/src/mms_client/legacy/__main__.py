"""`python -m mms_client.legacy install DIR`, `activate`, and their `--undo`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Optional, Sequence

from . import install as steps

FAILED = 1


def main(args: Optional[Sequence[str]] = None) -> int:
    """Runs one command; gives the exit code: 0 done, 1 refused, 2 a mistake in the command line."""
    given = _parser().parse_args(args)
    try:
        if given.command == "activate":
            said = steps.undo_pth() if given.undo else steps.install_pth()
        else:
            said = steps.undo(given.folder) if given.undo else steps.install(given.folder, force=given.force)
    except (steps.Refused, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    print(said)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mms_client.legacy", description="Keep the old import of ModelManagerAgent working."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    install = commands.add_parser("install", help=f"write DIR/{steps.PLACE}, a client of the suite")
    install.add_argument("folder", type=Path, metavar="DIR", help="the folder that holds main_pc_code")
    install.add_argument("--force", action="store_true", help=f"replace a foreign file, which is kept as *{steps.BACKUP}")
    activate = commands.add_parser(
        "activate", help="let every program of this environment find the module where there is none"
    )
    for command in (install, activate):
        command.add_argument("--undo", action="store_true", help="as it was before")
    return parser


if __name__ == "__main__":
    sys.exit(main())
