"""A child process that cannot start."""

from __future__ import annotations


def main() -> None:
    raise RuntimeError("a library is missing")
