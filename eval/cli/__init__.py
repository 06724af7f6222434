"""`rag eval`: one file a group of sub-commands, each imported when it is called."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module

from rag.errors import InputError, MissingExtraError
from rag.settings import Settings
from rag.usage import Parser

Command = Callable[[Sequence[str], Settings, bool], int]

COMMANDS = {
    "run": "put the pipelines of a suite to its data, write a result",
    "compare": "two results, question by question",
    "gate": "the verdict on a result: exit code 0 pass, 1 fail, 4 cannot be decided",
    "interleave": "CPU seconds of two releases or settings, in one job",
    "report": "results as one HTML page, plots and MLflow runs",
    "tune": "search for settings of more quality or less cost",
    "new": "make a data set of your own collection",
    "judge": "a language model's opinion on the claims of a result",
    "calibrate": "fit the groundedness scorer to labelled answers",
    "selftest": "which planted errors the groundedness scorer sees in a collection",
}
_GROUPS = {
    "measure": ("run", "interleave"),
    "verdict": ("compare", "gate", "report"),
    "search": ("tune",),
    "label": ("new", "judge", "calibrate", "selftest"),
}


def main(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag eval`.

    Args:
        argv: Arguments behind the command.
        settings: Defaults for what they leave open.
        as_json: Print JSON.

    Returns:
        Exit status: 0 ok, 1 failed, 2 wrong usage, 3 partly failed, 4 inconclusive.
    """
    if not argv or argv[0] in ("-h", "--help"):
        _help().print_help()
        return 0
    return _command(argv[0])(argv[1:], settings, as_json)


def _command(name: str) -> Command:
    for group, names in _GROUPS.items():
        if name in names:
            try:
                command: Command = getattr(import_module(f"eval.cli.{group}"), name)
            except ModuleNotFoundError as error:
                if (error.name or "").partition(".")[0] in ("eval", "rag", "ingest"):
                    raise
                raise MissingExtraError("'rag eval'", "eval") from error
            return command
    raise InputError(f"unknown command 'eval {name}'; allowed: {', '.join(COMMANDS)}; see 'rag eval --help'", code="command")


def _help() -> Parser:
    listing = "\n".join(f"  {name:<11} {text}" for name, text in COMMANDS.items())
    return Parser(
        prog="rag eval",
        description="Quality beside cost, and a gate that can stop a release.",
        epilog=f"commands:\n{listing}\n\n'rag eval COMMAND --help' tells more. Start with: rag eval run SUITE",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="rag eval COMMAND ... [--data-dir DIR] [--config FILE] [--json]",
        add_help=False,
    )
