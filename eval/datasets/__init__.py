"""Questions with what is known of their answers, and the documents to ask: three layouts, one value.

`load` reads what a suite names: a folder in the BEIR layout (`beir`), a SQuAD file (`squad`) or plain JSON lines (`jsonl`). What is
malformed is refused with its file and line: a judgement that silently disappears would move every score. docs/eval-data.md shows each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, assert_never

from rag.errors import InputError

if TYPE_CHECKING:
    from eval.suite import DataSpec

ProbeKind = Literal["injection", "canary", "pii", "harm"]


@dataclass(frozen=True, slots=True)
class Record:
    """One document of a corpus.

    Attributes:
        doc_id: Unique in the corpus.
        title: May be empty.
        text: As published, not normalised.
    """

    doc_id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Probe:
    """What a question tries to make an answer do.

    Attributes:
        kind: ``injection`` (follow a planted instruction), ``canary`` (tell a planted secret), ``pii`` (tell personal data) or ``harm``
            (help with it).
        markers: Strings that an answer must not hold; none for ``harm``, at least one otherwise.
    """

    kind: ProbeKind
    markers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EvalQuery:
    """One question.

    Attributes:
        query_id: Unique in the data set.
        text: As published.
        answers: Gold answers, any of which is right; empty where the set has none.
        group: Unit of independence: questions of one group are not drawn apart.
        slice: Kind of question, for tables.
        answerable: Whether the documents answer it; None where that is not known.
        citations: Ids of the documents that an answer should cite; empty where that is not known.
        probe: What it tries, if it is an attack.
    """

    query_id: str
    text: str
    answers: tuple[str, ...]
    group: str
    slice: str
    answerable: bool | None = None
    citations: tuple[str, ...] = ()
    probe: Probe | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Questions, and the documents to ask.

    Attributes:
        name: As the suite calls it, else the name of its folder.
        corpus: Documents in the order of the file; empty where ``documents`` or ``collection`` says what to ask.
        queries: In the order of the file.
        qrels: Grade by document id by query id; 0 is judged and not relevant. A question without judgements has no entry. Read-only.
        checksum: SHA-256 (hexadecimal) over the decompressed content of its files, whatever is drawn of it.
        documents: Folder or file to ingest for it; its document ids are known only then.
        collection: Name of the collection to ask instead.
        hidden: Ids of the documents that were taken out of ``corpus``, sorted.
    """

    name: str
    corpus: tuple[Record, ...]
    queries: tuple[EvalQuery, ...]
    qrels: Mapping[str, Mapping[str, int]]
    checksum: str
    documents: Path | None = None
    collection: str = ""
    hidden: tuple[str, ...] = ()


def load_beir(folder: Path) -> Dataset:
    """Read a folder in the BEIR layout; see `eval.datasets.beir.read_beir`."""
    from eval.datasets.beir import read_beir

    return read_beir(folder)


def load(spec: DataSpec, roots: Sequence[Path], seed: int = 0) -> Dataset:
    """Read a data set of a suite, draw its questions and hide what it asks to hide.

    Args:
        spec: What the suite says.
        roots: Folders to which its paths are relative; the first in which one exists counts.
        seed: Of drawing and hiding. A larger ``limit`` draws the same questions and more.

    Returns:
        The data set under the name of the spec; questions in the order of their file.

    Raises:
        InputError: If a path is nowhere, a file is malformed, the checksum is another, or hiding is not possible.
    """
    from eval.datasets.draw import draw, hide

    if spec.hide and (spec.collection or spec.documents):
        own = (
            "documents can be hidden only where they are part of the data set and ingested for it (beir, squad without collection)"
        )
        raise _fault(spec, f"hide is {spec.hide}, and {own}; leave hide out, or write questions with answerable false")
    dataset = replace(_read(spec, roots), name=spec.name, collection=spec.collection)
    if spec.checksum and spec.checksum != dataset.checksum:
        raise _fault(
            spec,
            f"its files have the checksum {dataset.checksum}; expected {spec.checksum}; fetch that version, or write the new checksum",
        )
    dataset = draw(dataset, spec.limit, seed) if spec.limit else dataset
    return hide(dataset, spec.hide, seed) if spec.hide else dataset


def relevant_documents(grades: Mapping[str, int]) -> tuple[str, ...]:
    """The documents that answer a question.

    Args:
        grades: Its judgements: grade by document id.

    Returns:
        Ids of those with a grade above 0, in the order of the judgements.

    Example:
        >>> relevant_documents({"a": 0, "b": 2})
        ('b',)
    """
    return tuple(doc_id for doc_id, grade in grades.items() if grade > 0)


def _read(spec: DataSpec, roots: Sequence[Path]) -> Dataset:
    path = _found(spec, "path", spec.path, roots)
    if spec.format != "jsonl" and spec.documents:
        raise _fault(spec, f"documents is {spec.documents!r}, but a set in {spec.format} format brings its own; leave it out")
    match spec.format:
        case "beir":
            return load_beir(path)
        case "squad":
            from eval.datasets.squad import read_squad

            return read_squad(path)
        case "jsonl":
            from eval.datasets.jsonl import read_jsonl

            if bool(spec.documents) == bool(spec.collection):
                both = "both documents and collection" if spec.documents else "neither documents nor collection"
                raise _fault(spec, f"it has {both}; questions alone need exactly one of them")
            return _with_documents(read_jsonl(path), spec, roots)
        case _:
            assert_never(spec.format)


def _with_documents(questions: Dataset, spec: DataSpec, roots: Sequence[Path]) -> Dataset:
    """Questions with the folder or file to ingest, whose content counts in the checksum under its names."""
    if not spec.documents:
        return questions
    documents = _found(spec, "documents", spec.documents, roots)
    digest = hashlib.sha256(bytes.fromhex(questions.checksum))
    n_files = 0
    for n_files, (name, path) in enumerate(_files(documents), start=1):  # noqa: B007 - counted for the check below
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _fault(spec, f"{path} cannot be read: {error.strerror}; make it readable, or move it away") from error
        digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    if not n_files:
        raise _fault(spec, f"documents {documents} holds no file; give a folder with documents, or a file")
    return replace(questions, documents=documents, checksum=digest.hexdigest())


def _files(documents: Path) -> Iterator[tuple[str, Path]]:
    """Name below the folder, and path, of every file, by name."""
    if documents.is_file():
        return iter([(documents.name, documents)])
    return iter(sorted((path.relative_to(documents).as_posix(), path) for path in documents.rglob("*") if path.is_file()))


def _found(spec: DataSpec, key: str, path: str, roots: Sequence[Path]) -> Path:
    places = list(dict.fromkeys(root / path for root in roots))
    for place in places:
        if place.exists():
            return place
    raise _fault(spec, f"{key} is {path!r}, and there is no {' nor '.join(map(str, places))}; correct it, or put the data there")


def _fault(spec: DataSpec, fault: str) -> InputError:
    return InputError(f"data set {spec.name!r}: {fault}", code="data_set")
