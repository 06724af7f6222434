"""Whether a follow-up question finds its page once `rag.conversation` has made it stand alone.

    python -m bench.conversation [--out DIR]

The conversations of `tests/data/conversations.jsonl` are about the pages of the user guide (docs/*.md), which are ingested and
searched in mode bm25. The rules were written with those of the part ``fit`` in view; those of ``held_out`` were written afterwards, and
changed nothing. Of the questions of XQuAD, nearly all of which stand alone, the share left unchanged is counted too.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.corpora import COLLECTION, ingest_files
from bench.machine import CHECKOUT, Machine, commit, this_machine
from bench.result import result_parser, today, write_result
from eval.datasets import load_beir
from rag.conversation import Turn, needs_rewrite, standalone
from rag.embed import open_embedder
from rag.engine import Engine, open_engine
from rag.settings import Settings
from rag.types import Query

CONVERSATIONS = CHECKOUT / "tests" / "data" / "conversations.jsonl"
_PARTS = ("fit", "held_out")
_FORMAT = 1
_K = 20
# Longer than any rewritten question of the conversations.
_MAX_CHARS = 400


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of a conversation.

    Attributes:
        part: ``fit`` or ``held_out``.
        history: The turns before it.
        question: As asked.
        pages: Those that answer it.
        follows: Whether it leans on the turns before it, as the writer of the conversation meant it.
    """

    part: str
    history: tuple[Turn, ...]
    question: str
    pages: frozenset[str]
    follows: bool


@dataclass(frozen=True, slots=True)
class Found:
    """How well the pages of some questions are found.

    Attributes:
        part: ``fit`` or ``held_out``.
        kind: ``follows`` or ``alone``.
        how: ``raw`` as asked, ``rewritten`` by the rules.
        n_questions: Questions.
        hit1: Share whose best chunk is of a right page.
        hit3: Share with a right page among the best three pages.
        reciprocal_rank: Mean reciprocal rank of the first right page.
    """

    part: str
    kind: str
    how: str
    n_questions: int
    hit1: float
    hit3: float
    reciprocal_rank: float


@dataclass(frozen=True, slots=True)
class Seen:
    """How well follow-ups are told from other questions.

    Attributes:
        part: ``fit`` or ``held_out``.
        follow_ups: Share of the follow-ups that the rules take for such.
        unchanged: Share of the other questions that are left as they are.
    """

    part: str
    follow_ups: float
    unchanged: float


@dataclass(frozen=True, slots=True)
class Result:
    """A whole result, as written.

    Attributes:
        format: Of the file.
        commit: Of the code.
        date: Of the run.
        machine: Where.
        found: One entry a part, kind and way.
        seen: One entry a part.
        xquad_unchanged: Share of the questions of XQuAD that are left as they are; None without that data set.
    """

    format: int
    commit: str
    date: str
    machine: Machine
    found: tuple[Found, ...]
    seen: tuple[Seen, ...]
    xquad_unchanged: float | None


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the figures and write the result."""
    options = _options(argv)
    commit_name, machine = commit(), this_machine()
    asked = list(read_conversations(CONVERSATIONS))
    with TemporaryDirectory() as work:
        found = tuple(measure(asked, Path(work)))
    result = Result(
        format=_FORMAT,
        commit=commit_name,
        date=today(),
        machine=machine,
        found=found,
        seen=tuple(_seen(asked, part) for part in _PARTS),
        xquad_unchanged=_unchanged(options.data / "xquad-en"),
    )
    for row in found:
        print(
            f"{row.part:9}{row.kind:8}{row.how:10}{row.n_questions:3} "
            f"hit@1 {row.hit1:.3f} hit@3 {row.hit3:.3f} MRR {row.reciprocal_rank:.3f}"
        )
    for seen in result.seen:
        print(f"{seen.part:9}follow-ups seen {seen.follow_ups:.3f} others unchanged {seen.unchanged:.3f}")
    print(f"XQuAD unchanged {result.xquad_unchanged}")
    write_result(result, options.out, "conversation")


def read_conversations(path: Path) -> Iterator[Asked]:
    """Read the conversations.

    Args:
        path: One JSON object a line, with ``part`` and ``turns`` of ``question``, ``answer``, ``pages`` and ``follows``.

    Yields:
        Every question with the turns before it, in order.
    """
    for line in path.read_text(encoding="utf-8").splitlines():
        conversation = json.loads(line)
        history: tuple[Turn, ...] = ()
        for turn in conversation["turns"]:
            yield Asked(conversation["part"], history, turn["question"], frozenset(turn["pages"]), turn["follows"])
            history += (Turn("user", turn["question"]), Turn("assistant", turn["answer"]))


def measure(asked: Sequence[Asked], work: Path) -> Iterator[Found]:
    """Search the user guide with every question, as asked and rewritten.

    Args:
        asked: The questions.
        work: An empty folder for the collection.

    Yields:
        Figures by part, kind and way.
    """
    settings = replace(Settings(), data_dir=work)
    embedder = open_embedder(settings.embedder, work / "models")
    ingest_files(tuple(sorted((CHECKOUT / "docs").glob("*.md"))), settings, embedder)
    ways: dict[str, Callable[[Asked], str]] = {
        "raw": lambda one: one.question,
        "rewritten": lambda one: standalone(one.history, one.question, _MAX_CHARS).question,
    }
    with open_engine(settings, COLLECTION) as engine:
        for part in _PARTS:
            for kind in ("follows", "alone"):
                chosen = [one for one in asked if one.part == part and one.follows is (kind == "follows")]
                for how, words in ways.items():
                    ranks = [_rank(engine, words(one), one.pages) for one in chosen]
                    yield Found(
                        part=part,
                        kind=kind,
                        how=how,
                        n_questions=len(ranks),
                        hit1=statistics.fmean(rank == 1 for rank in ranks),
                        hit3=statistics.fmean(0 < rank <= 3 for rank in ranks),
                        reciprocal_rank=statistics.fmean(1 / rank if rank else 0.0 for rank in ranks),
                    )


def _rank(engine: Engine, text: str, pages: frozenset[str]) -> int:
    """Rank of the first right page, from 1; 0 when it is not found."""
    hits = engine.search(Query(text, k=_K, mode="bm25")).hits
    names = list(dict.fromkeys(hit.chunk.doc_id.removesuffix(".md") for hit in hits))
    return next((rank for rank, name in enumerate(names, start=1) if name in pages), 0)


def _seen(asked: Sequence[Asked], part: str) -> Seen:
    of_part = [one for one in asked if one.part == part]
    return Seen(
        part=part,
        follow_ups=statistics.fmean(needs_rewrite(one.question) for one in of_part if one.follows),
        unchanged=statistics.fmean(not needs_rewrite(one.question) for one in of_part if not one.follows),
    )


def _unchanged(folder: Path) -> float | None:
    if not folder.is_dir():
        return None
    return statistics.fmean(not needs_rewrite(query.text) for query in load_beir(folder).queries)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    return result_parser(__doc__).parse_args(argv)


if __name__ == "__main__":
    main()
