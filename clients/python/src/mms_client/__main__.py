"""`python -m mms_client ping|status|generate`: is the server there, what does it hold, does it answer?"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Optional, Sequence

from . import __version__
from .client import Client
from .errors import MmsError

USAGE = 2  # exit code for what argparse calls a usage error
FAILED = 1


def main(args: Optional[Sequence[str]] = None) -> int:
    """Runs one command; gives the exit code: 0 done, 1 the server refused or is not there, 2 a mistake in the command line."""
    given = _parser().parse_args(args)
    try:
        client = Client(given.endpoint, http=given.http, timeout=given.timeout or 10.0)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    with client:
        try:
            given.run(client, given)
        except MmsError as error:
            print(f"error: {error} ({error.code})", file=sys.stderr)
            return FAILED
    return 0


def _ping(client: Client, given: argparse.Namespace) -> None:
    reply = client.ping(timeout=given.timeout)
    _show(given, reply, f"{reply['agent']} {reply['version']} answers at {client.settings.endpoint}")


def _status(client: Client, given: argparse.Namespace) -> None:
    reply = client.get_status(timeout=given.timeout)
    loaded = ", ".join(reply["loaded_models"]) or "none"
    budget = f"{reply['total_vram_used_mb']} of {reply['total_vram_mb']} MB used"
    _show(given, reply, f"{reply['health']}; {reply['total_models']} models, loaded: {loaded}; {budget}")


def _generate(client: Client, given: argparse.Namespace) -> None:
    options: dict[str, Any] = {"model": given.model, "max_tokens": given.max_tokens, "temperature": given.temperature}
    if given.stream:
        with client.stream(given.prompt, timeout=given.timeout, **options) as stream:
            for piece in stream:
                print(piece, end="", flush=True)
        print()
        return
    reply = client.generate(given.prompt, timeout=given.timeout, **options)
    _show(given, reply, reply["text"])


def _show(given: argparse.Namespace, reply: Any, text: str) -> None:
    print(json.dumps(reply, ensure_ascii=False) if given.json else text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mms_client", description="Ask a Model Manager Suite.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, about in (
        ("ping", _ping, "is the server there?"),
        ("status", _status, "models in memory, memory, health"),
        ("generate", _generate, "an answer to a prompt"),
    ):
        command = commands.add_parser(name, help=about)
        command.set_defaults(run=run)
        command.add_argument("--endpoint", help="tcp://host:port of the main port [the environment, else 127.0.0.1:9901]")
        command.add_argument("--http", help="URL of the HTTP port, for --stream [the environment, else two above the main port]")
        command.add_argument("--timeout", type=_seconds, help="seconds for the whole request")
        command.add_argument("--json", action="store_true", help="print the reply as JSON")
        if name == "generate":
            command.add_argument("prompt")
            command.add_argument("--model", help="a model's id [the routing policy's fast one]")
            command.add_argument("--max-tokens", type=int)
            command.add_argument("--temperature", type=float)
            command.add_argument("--stream", action="store_true", help="print the pieces as they are made")
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(text)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
