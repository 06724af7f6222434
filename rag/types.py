"""The nouns that travel between the stages: frozen values without behaviour.

The way of the data, top to bottom: files become a `Document` with `Section` marks; a document is cut into `Chunk` spans; a `Query`
finds `Candidate` chunks; those are packed into a `Context`; an `Answer` cites what it says; a `Measurement` tells what it cost.

Every ``start`` and ``end`` counts Unicode code points, ``end`` is exclusive, and the invariant of the project is
``document_text[start_char:end_char] == quote`` for every citation that leaves it. Scores: higher is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:  # numpy takes a quarter of the time that `rag --help` may take
    import numpy as np
    from numpy.typing import NDArray

SearchMode = Literal["hybrid", "bm25", "dense"]
ContextStyle = Literal["passages", "sentences"]
SectionKind = Literal["prose", "heading", "code", "table"]
TextRole = Literal["document", "query"]
Method = Literal["measured", "apportioned", "modelled", "assumed"]
Unit = Literal["J", "g", "g/answer", "g/run"]
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
        page: Page number from 1, where the source has pages.
        line: Line of the source file, from 1, at which the run begins, where lines of text and source agree.
    """

    start: int
    end: int
    kind: SectionKind = "prose"
    headings: tuple[str, ...] = ()
    page: int | None = None
    line: int | None = None


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
        kind: Format family: text, markdown, html, csv, jsonl, eml, code.
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
    """

    start: int
    end: int
    headings: tuple[str, ...]
    page: int | None
    line: int | None
    n_tokens: int


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


class StageCost(NamedTuple):
    """What one stage took; a named tuple, as `Figure` is and for the same reason.

    Attributes:
        name: Stable across releases.
        wall_s: Wall-clock seconds, without those of stages entered inside it.
        cpu_s: CPU seconds, user and system, of all threads and child processes that worked for it, without those of stages inside.
        energy_j: Active joules of those CPU seconds, with the method and the relative band of the part ``active``; None without a
            power model.
    """

    name: str
    wall_s: float
    cpu_s: float
    energy_j: float | None = None


class Figure(NamedTuple):
    """A quantity that cannot be read exactly, with how it came about.

    A named tuple: every answer makes half a dozen, and a frozen dataclass takes four times as long to make.

    Attributes:
        value: Best estimate, between ``lo`` and ``hi``.
        lo: Lower end of what it may be, 0 or more.
        hi: Upper end.
        unit: ``J``, ``g`` (of CO2 equivalent), ``g/answer`` or, of an ingest, ``g/run``.
        method: ``measured`` is the difference of a counter over a window; ``apportioned`` a share of one; ``modelled`` computed from
            measured CPU seconds and a table or formula; ``assumed`` a constant that nobody confirmed. From strong to weak.
        source: Where the price of a unit comes from, for people.
        boundary: What the figure covers, for example ``server_wall`` or ``cpu_package+dram``.
        window_s: Seconds of the counter window, where one was read.
        year: Of the data behind it, where it has one.
    """

    value: float
    lo: float
    hi: float
    unit: Unit
    method: Method
    source: str
    boundary: str
    window_s: float | None = None
    year: int | None = None


class Energy(NamedTuple):
    """The joules of a piece of work, and the grams that they stand for; a named tuple, as `Figure` is.

    Attributes:
        total: Sum of the parts, with the weakest of their methods.
        active: What the CPU seconds took beyond an idle machine.
        idle: Share of the idle power of the hardware threads that the work kept reserved.
        dram: Memory, where the price of the CPU does not hold it already.
        gpu: Of this machine's devices, where they are counted.
        remote: Of servers elsewhere that worked for it.
        facility: What cooling and power supply of the site add (PUE - 1).
        carbon: Grams of CO2 equivalent of ``total``: operation only.
        embodied: Share of what making the hardware emitted.
        sci: Software Carbon Intensity of one answer or run: ``carbon`` plus ``embodied`` (ISO/IEC 21031).
        assumed: Names of the inputs that nobody told and no table knew.
        not_modelled: Names of the quantities that no figure above covers.
        notes: Sources that were passed over, and why.
    """

    total: Figure
    active: Figure
    idle: Figure
    dram: Figure | None
    gpu: Figure | None
    remote: Figure | None
    facility: Figure | None
    carbon: Figure
    embodied: Figure | None
    sci: Figure
    assumed: tuple[str, ...]
    not_modelled: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens by purpose.

    Attributes:
        context: In the packed context.
        prompt: Sent to a language model.
        completion: Returned by a language model, or in an extractive answer.
        saved: In the passages found but not packed: what a plain top-k prompt would have sent on top.
    """

    context: int = 0
    prompt: int = 0
    completion: int = 0
    saved: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a result cost.

    Attributes:
        wall_s: Wall-clock seconds.
        cpu_s: CPU seconds, user and system.
        energy: Joules and grams; None without a power model.
        tokens: By purpose.
        stages: In the order in which they began; what lies between stages is in no stage.
        cache: ``off``, ``miss`` or ``hit``.
        peak_rss_bytes: Highest resident memory of the process so far.
        saved_cpu_s: Of a cache hit, CPU seconds that the answer took when it was made, less those of this measurement; at least 0.
        saved_j: Of a cache hit, its joules likewise; None where they were not known.
    """

    wall_s: float
    cpu_s: float
    energy: Energy | None
    tokens: TokenCounts
    stages: tuple[StageCost, ...]
    cache: Literal["off", "miss", "hit"]
    peak_rss_bytes: int
    saved_cpu_s: float = 0.0
    saved_j: Figure | None = None


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
