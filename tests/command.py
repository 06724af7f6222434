"""The `rag` command, run in this process, and what it left behind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rag.__main__ import main


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def value(self) -> dict[str, Any]:
        """The one JSON object that it printed."""
        (line,) = self.out.splitlines()
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class Command:
    """Runs `rag` in this process, in a data directory."""

    def __init__(self, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.data_dir = data_dir
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Outcome:
        self._capsys.readouterr()
        try:
            status = main([*map(str, arguments), "--data-dir", str(self.data_dir)])
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = self._capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return Outcome(status, captured.out, captured.err)

    def refused(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Status, code and message of an error: one line for people, the same as one JSON object for programs."""
        human, machine = self(*arguments), self(*arguments, "--json")
        assert human.out == ""
        assert human.err.startswith("rag: ")
        assert human.err.count("\n") == 1
        assert machine.status == human.status
        assert set(machine.value) == {"error"}
        assert set(machine.value["error"]) == {"code", "message"}
        assert human.err == f"rag: {machine.value['error']['message']}\n"
        return human.status, machine.value["error"]["code"], machine.value["error"]["message"]
