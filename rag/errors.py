"""The one error tree.

    RagError                 every failure that we can explain
    |- ConfigError           a setting is unknown, malformed or contradicts another
    |- InputError            the caller's argument is outside what is allowed
    |- SnapshotError         stored data is missing, damaged, locked or of a newer format
    |- ModelError            a model is missing, altered or failed to run
    |- PowerError            a source of watts or grams cannot be used
    |- OverloadedError       too much is asked at once; try again later
    `- MissingExtraError     an optional dependency is not installed

A message says what was wrong, the value got, what is allowed and what to do next, on one line. Programs branch on the class and on
``code``, never on the words.
"""

from __future__ import annotations


class RagError(Exception):
    """Every failure that we can explain.

    Args:
        message: One line for people.
        code: Short stable name of the failure, for programs.

    Attributes:
        exit_code: Exit status of the command line: 1 failed, 2 wrong usage.
    """

    exit_code: int = 1

    def __init__(self, message: str, *, code: str = "failed") -> None:
        super().__init__(message)
        self.code = code


class ConfigError(RagError):
    """A setting is unknown, malformed or contradicts another."""

    exit_code: int = 2


class InputError(RagError):
    """The caller's argument is outside what is allowed."""

    exit_code: int = 2


class SnapshotError(RagError):
    """Stored data is missing, damaged, locked or of a newer format."""


class ModelError(RagError):
    """A model is missing, altered or failed to run."""


class PowerError(RagError):
    """A source of watts or grams cannot be used: a counter, calibration file or table. The next one is, and the result says so."""


class OverloadedError(RagError):
    """Too much is asked at once."""


class MissingExtraError(RagError):
    """An optional dependency is not installed.

    Args:
        what: What was asked for.
        extra: Name of the extra that brings it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the optional dependencies [{extra}], which are not installed: pip install 'ragwatt[{extra}]'",
            code="missing_extra",
        )
        self.extra = extra
