"""SQuAD files, versions 1.1 and 2: every paragraph is a document, every question of a paragraph is answered there or nowhere.

References:
    Rajpurkar et al., EMNLP 2016, doi:10.18653/v1/D16-1264; Rajpurkar, Jia, Liang, ACL 2018, doi:10.18653/v1/P18-2124.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import msgspec

from eval.datasets import Dataset, EvalQuery, Record
from eval.datasets.kind import question_kind
from eval.datasets.lines import checksum, file_content, malformed


class _Answer(msgspec.Struct, frozen=True):
    text: str
    answer_start: int | None = None


class _Question(msgspec.Struct, frozen=True):
    id: str
    question: str
    answers: tuple[_Answer, ...] = ()
    is_impossible: bool = False


class _Paragraph(msgspec.Struct, frozen=True):
    context: str
    qas: tuple[_Question, ...]


class _Article(msgspec.Struct, frozen=True):
    paragraphs: tuple[_Paragraph, ...]
    title: str = ""


class _Squad(msgspec.Struct, frozen=True):
    data: tuple[_Article, ...]


def read_squad(path: Path) -> Dataset:
    """Read a SQuAD file.

    Args:
        path: The file, ``.json`` or ``.json.gz``.

    Returns:
        Documents ``title/n``, n from 1 over the paragraphs of all articles of that title; a paragraph that occurs again is the same
        document. A question belongs to the group of its document, which it should cite. With ``is_impossible`` it is not answerable and
        has no judgement, because no document is relevant.

    Raises:
        InputError: If the file is missing or malformed, an id is repeated, an answer is not where its offset says, or a question has
            answers and is impossible, or neither.
    """
    content = file_content(path, "give a SQuAD file (.json or .json.gz)")
    squad = _decoded(path, content)
    corpus: dict[tuple[str, str], Record] = {}
    queries: dict[str, EvalQuery] = {}
    n_of_title: dict[str, int] = {}
    for title, paragraph in ((article.title, paragraph) for article in squad.data for paragraph in article.paragraphs):
        folder = title or "untitled"
        key = (folder, paragraph.context)
        if key not in corpus:
            n_of_title[folder] = n_of_title.get(folder, 0) + 1
            corpus[key] = Record(f"{folder}/{n_of_title[folder]}", title, paragraph.context)
        for question in paragraph.qas:
            fault = next(_faults(question, paragraph), "")
            if question.id in queries:
                fault = "the id stands twice; every id must be unique"
            if fault:
                raise malformed(f"{path}, question {question.id!r}: {fault}")
            queries[question.id] = _query(question, corpus[key].doc_id)
    if not queries:
        raise malformed(f"{path} has no questions; expected data, paragraphs and qas of SQuAD")
    qrels = {query.query_id: MappingProxyType({query.group: 1}) for query in queries.values() if query.answerable}
    return Dataset(
        name=path.name.partition(".")[0],
        corpus=tuple(corpus.values()),
        queries=tuple(queries.values()),
        qrels=MappingProxyType(qrels),
        checksum=checksum([content]),
    )


def _decoded(path: Path, content: bytes) -> _Squad:
    try:
        return msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"), type=_Squad)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at ")
        raise malformed(f"{path}, {place.strip('`$.') or 'top'}: {message}; expected the layout of SQuAD") from error
    except msgspec.DecodeError as error:
        at = int(found[1]) if (found := re.search(r"byte (\d+)", str(error))) else len(content)
        n_line = content[:at].count(b"\n") + 1
        raise malformed(f"{path}, line {n_line} is not valid JSON: {error}; correct it, or copy the file again") from error
    except UnicodeDecodeError as error:
        raise malformed(f"{path} is not UTF-8: {error.reason} at byte {error.start}; convert the file") from error


def _query(question: _Question, doc_id: str) -> EvalQuery:
    return EvalQuery(
        query_id=question.id,
        text=question.question,
        answers=tuple(dict.fromkeys(answer.text for answer in question.answers)),
        group=doc_id,
        slice=question_kind(question.question),
        answerable=not question.is_impossible,
        citations=() if question.is_impossible else (doc_id,),
    )


def _faults(question: _Question, paragraph: _Paragraph) -> Iterator[str]:
    if not question.question.strip():
        yield "question is empty; expected a text"
    if bool(question.answers) == question.is_impossible:
        said = "is_impossible is true and it has answers" if question.answers else "it has no answers and is_impossible is not true"
        yield f"{said}; expected one of them"
    for answer in question.answers:
        start = answer.answer_start
        if not answer.text.strip():
            yield "an answer is empty; expected a text"
        elif start is not None and (start < 0 or not paragraph.context.startswith(answer.text, start)):
            yield f"answer {answer.text!r} does not stand at answer_start {start} of its context; correct the offset, or leave it out"
