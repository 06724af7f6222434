"""Arguments of commands, refused like every other wrong input."""

from __future__ import annotations

import argparse
from typing import NoReturn

from rag.errors import InputError


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are told like every other error, on one line or as JSON."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments.

        Args:
            message: What is wrong with them.

        Raises:
            InputError: Always.
        """
        raise InputError(f"{message}; see '{self.prog} --help'", code="usage")
