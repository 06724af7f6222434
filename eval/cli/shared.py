"""What several sub-commands of `rag eval` do."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from eval.run import RunOptions
from eval.suite import Suite
from ingest.progress import open_progress
from ingest.report import Progress
from rag.console import line
from rag.errors import InputError
from rag.settings import Settings
from rag.usage import Parser

SHARED_HELP = "Every command also takes --data-dir DIR, --config FILE and --json."


def eval_parser(name: str, description: str) -> Parser:
    """A parser of one sub-command.

    Args:
        name: Of the sub-command.
        description: One sentence.

    Returns:
        The parser, without options.
    """
    return Parser(prog=f"rag eval {name}", description=description, epilog=SHARED_HELP, allow_abbrev=False)


def add_suite_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command takes that puts questions to pipelines.

    Args:
        parser: Of the command.
    """
    parser.add_argument("suite", metavar="SUITE", type=Path, help="a TOML file")
    parser.add_argument(
        "--data-sets",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="folder below which the suite's paths are looked for; may be given several times (then beside the suite)",
    )
    parser.add_argument(
        "--limit", type=int, default=0, metavar="N", help="questions of each data set at most (default: as the suite says)"
    )
    parser.add_argument("--calibration", type=Path, metavar="FILE", help="of the groundedness scorer, made by 'rag eval calibrate'")


def run_options(options: argparse.Namespace, settings: Settings) -> RunOptions:
    """The options of `add_suite_options` as a run takes them.

    Args:
        options: Parsed.
        settings: Of the user.

    Returns:
        Where a suite finds what it needs.

    Raises:
        InputError: If the limit is negative or a folder is none.
    """
    if options.limit < 0:
        raise InputError(f"--limit is {options.limit}; allowed: 0 (all) or more", code="usage")
    for folder in options.data_sets:
        if not folder.is_dir():
            raise InputError(f"--data-sets {folder} is not a folder; give the folder in which the data sets lie", code="usage")
    return RunOptions(settings=settings, roots=tuple(options.data_sets), calibration=options.calibration, limit=options.limit)


def with_data(suite: Suite, names: Sequence[str]) -> Suite:
    """A suite with only some of its data sets.

    Args:
        suite: The suite.
        names: Of data sets; empty for all.

    Returns:
        The same suite, its data sets in their order.

    Raises:
        InputError: If a name is not in the suite.
    """
    known = [spec.name for spec in suite.data]
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"data set {unknown[0]!r} is not in suite {suite.name!r}; allowed: {', '.join(known)}", code="data")
    return replace(suite, data=tuple(spec for spec in suite.data if not names or spec.name in names))


def with_url(settings: Settings, url: str | None) -> Settings:
    """The settings with the address of a running service, where one is given."""
    return settings if url is None else replace(settings, eval=replace(settings.eval, url=url))


@contextmanager
def watched() -> Iterator[Progress]:
    """Progress on standard error, tidied up at the end."""
    progress = open_progress()
    try:
        yield progress
    finally:
        progress.close()


def tell(text: str) -> None:
    """Tell a person something that is no result."""
    sys.stderr.write(text + "\n")


def print_json(value: object) -> None:
    """Print a value as one line of JSON."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def print_lines(text: str) -> None:
    """Print text line by line, with what a terminal would obey made visible."""
    for each in text.rstrip("\n").split("\n"):
        line(each)


def write_file(path: Path, content: bytes) -> None:
    """Write a small file of a result.

    Args:
        path: Its folder is made.
        content: Whole.

    Raises:
        InputError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; name another file", code="output") from error
