"""Arguments of commands, refused like every other wrong input."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NoReturn

from rag.errors import InputError


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are told like every other error, on one line or as JSON."""

    def parse_known_args(  # type: ignore[override]  # its overloads tell namespaces apart, which nobody here does
        self,
        args: Sequence[str] | None = None,
        namespace: Any = None,  # noqa: ANN401 - as argparse has it
    ) -> tuple[Any, list[str]]:
        """Parse arguments; `parse_args` and commands of commands come by here too.

        Args:
            args: Arguments without the program's name; None means those of the process.
            namespace: Takes the values; None means a new one.

        Returns:
            The namespace, and the arguments that nobody knows.

        Raises:
            InputError: If an argument is wrong; code ``usage``.
        """
        given = sys.argv[1:] if args is None else list(args)
        # argparse would take such a value for the mark that ends the options, drop it, and trip over the gap.
        for argument in takewhile(lambda each: each != "--", given):
            if argument.startswith("--") and argument.endswith("=--"):
                self.error(f"{argument} has the value --, which no option takes; give another value, or leave the option out")
        return super().parse_known_args(given, namespace)

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments.

        Args:
            message: What is wrong with them.

        Raises:
            InputError: Always.
        """
        raise InputError(f"{message}; see '{self.prog} --help'", code="usage")
