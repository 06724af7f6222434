"""What goes into the tools of the Model Context Protocol, and what comes out; descriptions are written for a language model."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from api.schemas import AnswerMode, CollectionName, FilterValues, Strict

Filters = Annotated[FilterValues, Field(description="Allowed values by metadata key; a list holds alternatives.")]


class SearchCall(Strict):
    """Arguments of `search`."""

    query: str = Field(min_length=1, description="A question, or words to look for.")
    collection: CollectionName | None = None
    k: int | None = Field(default=None, ge=1, le=1000, description="Passages wanted.")
    filters: Filters = {}


class FetchCall(Strict):
    """Arguments of `fetch`."""

    id: str = Field(min_length=1, description="The id of a result of search, or the doc_id of one for the document.")
    collection: CollectionName | None = None
    start: int = Field(default=0, ge=0, description="First character wanted of a document.")
    # The default is some 12,000 tokens: most documents whole, and no conversation drowned by one that is long.
    max_chars: int = Field(default=50_000, ge=1, le=1_000_000, description="Characters wanted of a document, from start on.")


class AnswerCall(Strict):
    """Arguments of `answer`."""

    question: str = Field(min_length=1, description="A whole question.")
    collection: CollectionName | None = None
    mode: AnswerMode = Field(
        default="standard",
        description="eco searches by words alone; standard by meaning too; generative lets a language model write; auto decides.",
    )
    token_budget: int = Field(default=0, ge=0, le=1_000_000, description="Prompt tokens of a language model; 0 means no limit.")
    k: int | None = Field(default=None, ge=1, le=1000, description="Passages to consider.")
    filters: Filters = {}


class Result(BaseModel):
    """What every result tells."""

    collection: str
    version: int
    degraded: list[str] = Field(description="What was left out because a stage took too long; empty when nothing was.")
    shared: bool
    request_id: str


class Passage(BaseModel):
    """A piece of a document, and where it lies: ``document_text[start:end] == text``."""

    id: str
    title: str
    url: str
    text: str
    metadata: dict[str, str]
    doc_id: str
    start: int
    end: int
    headings: list[str]
    page: int | None
    line: int | None
    place: str
    flags: list[str] = Field(description="Why the text deserves less trust; empty for most.")
    mtime: float | None


class Hit(Passage):
    """A passage that fits a query; of a score, higher is better, null was not asked for."""

    score: float
    bm25: float | None
    cosine: float | None


class SearchFound(Result):
    """What `search` returns, best first."""

    results: list[Hit]


class Fetched(Result, Passage):
    """What `fetch` returns; there is more where ``end`` is less than ``n_chars``."""

    n_chars: int = Field(description="Characters of the whole document.")
