"""Front matter of Markdown: the simple part of YAML that people write there, without a YAML parser.

Scalars, lists in brackets and lists of dashes. Anything else (nested mappings, block scalars) makes the whole block ordinary text:
better indexed as it stands than half understood.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_KEY = re.compile(r"([A-Za-z_][\w.\- ]*?)[ \t]*:(?:[ \t]+(.*))?$")
_ENTRY = re.compile(r"[ \t]*-[ \t]+(.+)$")
_COMMENT = re.compile(r"(?:^|[ \t])#.*$")
# Values that only a YAML parser understands: block scalars, mappings, anchors, aliases, tags.
_NOT_SIMPLE = re.compile(r"[|>{&*!]")
# Real front matter is short; the limit keeps a stray rule at the top of a long file from costing a scan.
_MAX_LINES = 200
# Bounds the work of the patterns.
_MAX_LINE_CHARS = 2000


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """Metadata at the top of a file.

    Attributes:
        values: As written, lists joined by ``, ``.
        n_lines: Lines that it takes, its two rules included; 0 if there is none.
    """

    values: dict[str, str] = field(default_factory=dict)
    n_lines: int = 0


def front_matter(text: str) -> FrontMatter:
    """Find front matter between two lines ``---``.

    Args:
        text: Normalised text.

    Returns:
        What it says; without values and lines if there is none or it is not simple.

    Example:
        >>> front_matter("---\\ntitle: 'Heat pumps'\\ntags: [energy, home]\\n---\\nText").values
        {'title': 'Heat pumps', 'tags': 'energy, home'}
    """
    lines = text.split("\n", _MAX_LINES + 1)[: _MAX_LINES + 1]
    if lines[0].rstrip() != "---":
        return FrontMatter()
    stop = next((n for n, line in enumerate(lines[1:], start=1) if line.rstrip() in ("---", "...")), 0)
    values = _values(lines[1:stop])
    return FrontMatter(values, stop + 1) if values else FrontMatter()


def _values(lines: Sequence[str]) -> dict[str, str] | None:
    lists: dict[str, list[str]] = {}
    values: dict[str, str] = {}
    key = ""
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        entry = _ENTRY.match(line, 0, _MAX_LINE_CHARS)
        pair = _KEY.match(line, 0, _MAX_LINE_CHARS)
        if entry and key in lists:
            lists[key].append(_scalar(entry[1]))
        elif pair and not _NOT_SIMPLE.match(pair[2] or ""):
            key, value = pair[1], (pair[2] or "").strip()
            values[key] = _scalar(value)
            if not values[key]:
                lists[key] = []
        else:
            return None
    return values | {name: ", ".join(entries) for name, entries in lists.items() if entries}


def _scalar(value: str) -> str:
    value = value.strip()
    if value[:1] in ("'", '"') and (close := value.rfind(value[0])) > 0:
        return value[1:close]
    value = _COMMENT.sub("", value).strip()
    if value.startswith("[") and value.endswith("]"):
        return ", ".join(filter(None, (entry.strip().strip("'\"") for entry in value[1:-1].split(","))))
    return value
