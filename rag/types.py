"""The nouns that travel between the stages: frozen values without behaviour.

The way of the data, top to bottom: files become a `Document` with `Section` marks; a document is cut into `Chunk` spans; a `Query`
finds `Candidate` chunks; those are packed into a `Context`; an `Answer` cites what it says. What it cost is told in `rag.cost`.

Every ``start`` and ``end`` counts Unicode code points, ``end`` is exclusive, and the invariant of the project is
``document_text[start_char:end_char] == quote`` for every citation that leaves it. Scores: higher is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from rag.cost import Measurement
from rag.verdict import Grounding

if TYPE_CHECKING:  # numpy takes a quarter of the time that `rag --help` may take
    import numpy as np
    from numpy.typing import NDArray

SearchMode = Literal["hybrid", "bm25", "dense"]
ContextStyle = Literal["passages", "sentences"]
SectionKind = Literal["prose", "heading", "code", "table"]
TrustFlag = Literal["hidden", "instructions"]
"""Text that a reader of the page would not see, and text that speaks to a language model instead of to people."""
TextRole = Literal["document", "query"]
Metadata = Mapping[str, str]
Filters = Mapping[str, frozenset[str]]
"""Allowed values by metadata key: a document must match one value of every key."""

Vector: TypeAlias = "NDArray[np.float32]"
"""float32 of shape (dim,) and unit length."""
Vectors: TypeAlias = "NDArray[np.float32]"
"""float32 of shape (n, dim), rows of unit length."""
Rows: TypeAlias = "NDArray[np.int64]"
"""int64 of shape (n,): row numbers of one snapshot, 0 to n_rows - 1, in order of (doc_id, place in the document)."""
Scores: TypeAlias = "NDArray[np.float32]"
"""float32 of shape (n,)."""


@dataclass(frozen=True, slots=True)
class Section:
    """A run of document text of one kind under one heading path, as a reader found it.

    Attributes:
        start: First character in the document text.
        end: One past the last character.
        kind: What the run is; a table is cut between rows only, code between lines only.
        headings: Titles from the outermost to the innermost heading above the run.
        page: Page or slide from 1, where the source has them.
        line: Line of the source file, from 1, at which the run begins, where lines of text and source agree; the row of a sheet.
        flags: Why the run deserves less trust, in alphabetical order; empty for most.
    """

    start: int
    end: int
    kind: SectionKind = "prose"
    headings: tuple[str, ...] = ()
    page: int | None = None
    line: int | None = None
    flags: tuple[TrustFlag, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """One file or record, normalised: what a reader returns and what the catalog keeps.

    Attributes:
        doc_id: Stable within a collection: the path below the ingested folder, or the id of a record.
        uri: Where it came from, for people.
        title: May be empty.
        text: Normalised text (`rag.text.normalise`), to which all offsets refer.
        sections: In ascending order, without overlap; text outside every section is not indexed.
        metadata: From the source (front matter, record keys, mail headers) and from the user.
        kind: Format family (`ingest.read.Kind`).
        mtime: Modification time of the source, seconds since the epoch.
    """

    doc_id: str
    uri: str
    title: str
    text: str
    sections: tuple[Section, ...]
    metadata: Metadata = field(default_factory=dict)
    kind: str = "text"
    mtime: float | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Where a chunk lies in its document, before it has a number.

    Attributes:
        start: First character in the document text.
        end: One past the last character.
        headings: Heading path of its first character.
        page: Page of its first character, from 1.
        line: Source line of its first character, from 1.
        n_tokens: Tokens of the embedded text (context line and chunk), by the tokenizer that the chunker was given.
        place: Where it lies in words of its source, such as ``slide 3`` or ``rows 12-40``; empty where page and line say it.
        flags: Those of all sections that it touches, in alphabetical order.
    """

    start: int
    end: int
    headings: tuple[str, ...]
    page: int | None
    line: int | None
    n_tokens: int
    place: str = ""
    flags: tuple[TrustFlag, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """What a reader of an answer needs to find the quoted place again.

    Attributes:
        uri: Where the document came from.
        title: Title of the document, may be empty.
        headings: Heading path of the place.
        page: Page from 1, or None.
        line: Source line from 1, or None.
        start_char: First character in the document text.
        end_char: One past the last character.
        mtime: Modification time of the source, seconds since the epoch, or None.
        metadata: Of the document.
        also_in: Document ids of duplicates that were collapsed into this chunk.
        place: Where it lies in words of its source, such as ``slide 3`` or ``rows 12-40``; empty where page and line say it.
        flags: Why the text deserves less trust, in alphabetical order; empty for most.
    """

    uri: str
    title: str
    headings: tuple[str, ...]
    page: int | None
    line: int | None
    start_char: int
    end_char: int
    mtime: float | None
    metadata: Metadata
    also_in: tuple[str, ...] = ()
    place: str = ""
    flags: tuple[TrustFlag, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document, as stored.

    Attributes:
        chunk_id: ``doc_id#digest of the text``: stays the same while the text does.
        doc_id: Its document.
        text: Exactly ``document_text[source.start_char:source.end_char]``.
        n_tokens: Tokens of its embedded text by the embedder's tokenizer.
        source: Where it lies.
    """

    chunk_id: str
    doc_id: str
    text: str
    n_tokens: int
    source: Source


@dataclass(frozen=True, slots=True)
class Query:
    """A question and how to look for it.

    Attributes:
        text: As asked; not empty after trimming.
        k: Hits wanted, 1 to 1,000.
        mode: Which index or indexes to ask.
        filters: Metadata that a document must have.
    """

    text: str
    k: int = 10
    mode: SearchMode = "hybrid"
    filters: Filters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows of a snapshot with one score each, best first; equal scores by ascending row."""

    rows: Rows
    scores: Scores


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that a search found.

    Attributes:
        chunk: The chunk.
        score: The score that orders the hits: fused, or that of the one index asked.
        bm25: BM25 score, 0.0 or more; None when the lexical index was not asked.
        cosine: Cosine to the query, -1.0 to 1.0; None when the dense index was not asked.
    """

    chunk: Chunk
    score: float
    bm25: float | None
    cosine: float | None


@dataclass(frozen=True, slots=True)
class Citation:
    """One claim of support: this span of our text rests on that span of a document.

    Attributes:
        index: Number shown to people, from 1.
        start: First character in the answer or context text.
        end: One past the last.
        quote: ``document_text[source.start_char:source.end_char]``, exactly.
        doc_id: The cited document.
        chunk_id: The chunk in which the quote was found.
        source: Where the quote (not the whole chunk) lies.
    """

    index: int
    start: int
    end: int
    quote: str
    doc_id: str
    chunk_id: str
    source: Source


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits of one query, best first; equal scores in the order of (doc_id, place)."""

    hits: tuple[Candidate, ...]
    collection: str
    version: int
    measurement: Measurement


@dataclass(frozen=True, slots=True)
class Context:
    """What fits the token budget.

    Attributes:
        text: Numbered sources, ready for a prompt.
        n_tokens: Tokens of ``text`` by the target model's count, or an upper estimate of it.
        max_tokens: The budget, never exceeded.
        counter: How tokens were counted, for people: name of the tokenizer, ``estimate`` when it was not to be had.
        citations: One a packed span, in the order of the text.
        n_tokens_saved: Tokens of the passages found less ``n_tokens``, at least 0.
    """

    text: str
    n_tokens: int
    max_tokens: int
    counter: str
    citations: tuple[Citation, ...]
    n_tokens_saved: int


@dataclass(frozen=True, slots=True)
class ContextResult:
    """A packed context with its provenance."""

    context: Context
    collection: str
    version: int
    measurement: Measurement


@dataclass(frozen=True, slots=True)
class Budget:
    """What one answer may use; 0 leaves a limit out.

    Attributes:
        max_prompt_tokens: Tokens of the prompt of a language model.
        max_completion_tokens: Tokens that it writes.
        max_energy_j: Active joules of the answer, search included.
    """

    max_prompt_tokens: int = 0
    max_completion_tokens: int = 0
    max_energy_j: float = 0.0


@dataclass(frozen=True, slots=True)
class Task:
    """A question with its evidence: what a generator is given.

    Attributes:
        question: On its own feet.
        candidates: Best first; may be empty.
        confidence: 0.0 to 1.0, from `rag.evidence.confidence`.
        focus: What was asked in a conversation, where ``question`` names its topic too: sentences are chosen by it, or the answer would be
            that of the question before. Empty means ``question``.
        budget: Limits of this answer, on top of those of the settings.
    """

    question: str
    candidates: Sequence[Candidate]
    confidence: float
    focus: str = ""
    budget: Budget = Budget()


@dataclass(frozen=True, slots=True)
class Step:
    """One attempt to answer.

    Attributes:
        generator: Who made it.
        reason: Why it was made, for people.
        outcome: What came of it; ``failed`` names the error in ``detail``.
        detail: For people; empty when there is nothing to say.
        n_prompt: Tokens that a language model read.
        n_completion: Tokens that it wrote.
    """

    generator: str
    reason: str
    outcome: Literal["answered", "abstained", "unverified", "failed", "skipped"]
    detail: str = ""
    n_prompt: int = 0
    n_completion: int = 0


@dataclass(frozen=True, slots=True)
class Draft:
    """What a generator returns: text with citations into documents, or an abstention.

    Attributes:
        text: The answer; a sentence that says so when it abstained.
        abstained: True when the evidence does not carry an answer.
        citations: Empty when it abstained.
        confidence: 0.0 to 1.0: the signal that was compared with the abstention threshold.
        reason: Why it abstained, for people; empty otherwise.
        generator: Who wrote the text.
        template: Name and hash of the prompt template; empty without a language model.
        steps: Attempts in order; the last one wrote the text.
        unverified: Sentences of the text that no cited passage carries, kept because the policy says so.
    """

    text: str
    abstained: bool
    citations: tuple[Citation, ...]
    confidence: float
    reason: str = ""
    generator: str = ""
    template: str = ""
    steps: tuple[Step, ...] = ()
    unverified: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answered question.

    Attributes:
        text: The answer, or a sentence that says that there is none.
        abstained: True when the evidence does not carry an answer.
        citations: In the order of the text.
        confidence: 0.0 to 1.0.
        reason: Why it abstained.
        generator: Who wrote it.
        collection: Name of the collection.
        version: Its version.
        measurement: What it cost.
        template: Name and hash of the prompt template; empty without a language model.
        steps: Attempts in order, with why each was made.
        unverified: Sentences of the text that no cited passage carries.
        question: As it was searched for, where a conversation made it another than was asked; empty otherwise.
        grounding: What became of its claims; None where nobody asked.
    """

    text: str
    abstained: bool
    citations: tuple[Citation, ...]
    confidence: float
    reason: str
    generator: str
    collection: str
    version: int
    measurement: Measurement
    template: str = ""
    steps: tuple[Step, ...] = ()
    unverified: tuple[str, ...] = ()
    question: str = ""
    grounding: Grounding | None = None
