"""The `rag` command: the composition root. It imports the package of a sub-command only when that is called."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path

from rag import __version__
from rag.errors import InputError, RagError
from rag.settings import Settings, load_settings
from rag.usage import Parser

Command = Callable[[Sequence[str], Settings, bool], int]

COMMANDS = {
    "ingest": "read folders and files into a collection",
    "export": "write the documents of a collection to a file that ingest reads",
    "search": "find the passages that fit a question",
    "context": "pack what answers a question into a token budget",
    "ask": "answer a question with citations, or abstain",
    "status": "list collections and what they hold",
    "repair": "check the data directory and rebuild what is damaged",
    "models": "list, add or verify models",
    "serve": "answer over HTTP: REST and OpenAI-compatible",
    "mcp": "answer an AI client that starts this command: MCP over standard input and output",
    "eval": "measure quality beside cost, compare releases, stop a bad one",
    "keys": "make, list and revoke the keys of the service",
    "energy": "what joules and grams rest on here, and how to make them better",
}
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; None means those of the process.

    Returns:
        Exit status: 0 ok, 1 failed, 2 wrong usage, 3 partly failed.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    if isinstance(sys.stdout, TextIOWrapper):  # what cannot be encoded, half of a surrogate pair, is written as its JSON escape
        sys.stdout.reconfigure(errors="backslashreplace")
    as_json = "--json" in given
    try:
        shared, rest = _parser().parse_known_args(given)
        if not rest or rest[0] in ("-h", "--help"):
            _parser().print_help()
            return 0
        command = _command(rest[0])
        settings = load_settings({"data_dir": shared.data_dir}, Path(shared.config) if shared.config else None)
        return command(rest[1:], settings, as_json)
    except RagError as error:
        _report(str(error), error.code, as_json=as_json)
        return error.exit_code
    except KeyboardInterrupt:
        _report(
            "interrupted; what was published stays, and texts embedded until a moment ago are not embedded again",
            "interrupted",
            as_json=as_json,
        )
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has left, as in `rag search ... | head`
        sys.stderr.close()
        return 1
    except OSError as error:
        what = error.filename or "standard output"
        _report(f"{what} cannot be read or written: {error.strerror}; check the disk and permissions", "io", as_json=False)
        return 1
    except Exception as error:  # noqa: BLE001 - the process border: say that it is our fault, and where
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        _report(
            f"internal error in {where}: {type(error).__name__}: {error}; this is a bug, please report it", "bug", as_json=as_json
        )
        return 1


def _parser() -> Parser:
    """Options that every command takes, before or behind its name."""
    listing = "\n".join(f"  {name:<9} {text}" for name, text in COMMANDS.items())
    parser = Parser(
        prog="rag",
        description="Grounded answers per joule: hybrid retrieval and cited answers on two CPU cores.",
        epilog=f"commands:\n{listing}\n\n'rag COMMAND --help' tells more. Start with: rag ingest FOLDER, then: rag ask 'your question'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="rag COMMAND ... [--data-dir DIR] [--config FILE] [--json]",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("--data-dir", metavar="DIR", help="catalog and snapshots (default: ragwatt-data)")
    parser.add_argument("--config", metavar="FILE", help="settings (default: ragwatt.toml, if there is one)")
    parser.add_argument("--json", action="store_true", help="print results and errors as JSON")
    parser.add_argument("--version", action="version", version=f"ragwatt {__version__}")
    return parser


def _command(name: str) -> Command:
    match name:
        case "ingest":
            from ingest.cli import main as command
        case "export":
            from ingest.export_cli import main as command
        case "models":
            from rag.models.cli import main as models_main

            return lambda argv, settings, as_json: models_main([*argv, *(["--json"] if as_json else [])], settings)
        case "search" | "context" | "ask" | "status" | "repair":
            from rag import cli

            of_cli: Command = getattr(cli, name)
            return of_cli
        case "eval":
            from eval.cli import main as command
        case "serve":
            from api.serve import main as command
        case "mcp":
            from api.mcp_stdio import main as command
        case "keys":
            from api.keys_cli import main as command
        case "energy":
            from rag.energy import main as command
        case _:
            raise InputError(f"unknown command {name!r}; allowed: {', '.join(COMMANDS)}; see 'rag --help'", code="command")
    return command


def _report(message: str, code: str, *, as_json: bool) -> None:
    """One line: JSON on standard output for programs, words on standard error for people."""
    line = " ".join(message.split())
    if as_json:
        sys.stdout.write(json.dumps({"error": {"code": code, "message": line}}) + "\n")
    else:
        sys.stderr.write(f"rag: {line}\n")


if __name__ == "__main__":
    sys.exit(main())
