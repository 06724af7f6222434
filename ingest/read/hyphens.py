"""Lines of a printed paragraph to its text: hyphens at line ends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_HEAD = re.compile(r"(?:[^\W\d_]+-)*[^\W\d_]+[-\xad]")


def words_of(lines: Iterable[str]) -> frozenset[str]:
    """Words of a document in lower case, those with a hyphen as one."""
    return frozenset(_WORD.findall("\n".join(lines).lower()))


def joined(lines: Sequence[str], vocabulary: frozenset[str]) -> Iterator[str]:
    """Pieces of a paragraph: hyphens at line ends go unless the document writes the word with one elsewhere, or not at all without."""
    for line, after in zip(lines, (*lines[1:], ""), strict=True):
        head = _HEAD.fullmatch(line.rpartition(" ")[2].lstrip("([\"'“‘„")) if line.endswith(("-", "\xad")) else None
        tail = _WORD.match(after) if head else None
        if head is None or tail is None or not after[0].islower():
            yield f"{line} " if after else line
            continue
        stem = head[0][:-1].lower()
        with_hyphen, without = f"{stem}-{tail[0].lower()}", stem + tail[0].lower()
        is_kept = "-" in stem or (with_hyphen in vocabulary and without not in vocabulary)
        yield line if is_kept and line.endswith("-") else line[:-1]
