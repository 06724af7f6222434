"""What the benchmarks have in common: the options that say where data lie and results go, and the JSON file named by commit."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import Field, asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol

from bench.machine import CHECKOUT


class Written(Protocol):
    """A dataclass that names its commit."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def commit(self) -> str:
        """Of the code, as `bench.machine.commit` tells it."""


def result_parser(description: str | None, *, has_data: bool = True) -> argparse.ArgumentParser:
    """Make a parser that knows ``--out``, a folder, and ``--data``.

    Args:
        description: Docstring of the benchmark, shown as it is.
        has_data: Whether there is ``--data``, by default the folder RAGWATT_TEST_DATA, else ../shared/data beside the checkout.

    Returns:
        The parser, for further options.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if has_data:
        default_data = Path(os.environ.get("RAGWATT_TEST_DATA") or CHECKOUT.parent / "shared" / "data")
        parser.add_argument("--data", type=Path, default=default_data)
    parser.add_argument("--out", type=Path, default=CHECKOUT / "bench" / "results")
    return parser


def today() -> str:
    """Day of a run, ``YYYY-MM-DD``, UTC."""
    return datetime.now(UTC).date().isoformat()


def write_result(result: Written, out: Path, name: str, kind: str = "") -> None:
    """Write ``NAME-COMMIT.json``, ``NAME-COMMIT-KIND.json`` for a kind, and print its path.

    Args:
        result: Its fields become those of the file.
        out: Folder, made where it is missing; a file of that name is replaced.
        name: Of the benchmark.
        kind: Of the run, where a benchmark has several.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{'-'.join(filter(None, (name, result.commit, kind)))}.json"
    path.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
    print(path)
