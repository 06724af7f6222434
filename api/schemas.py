"""What requests and responses look like. Unknown fields are refused on our own paths; on those of OpenAI they are ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rag.types import ContextStyle, SearchMode, TrustFlag

Json = dict[str, Any]
_NAME = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Letters, digits, '-', '_', '.'.")
AnswerMode = Literal["eco", "standard", "generative", "auto"]
CollectionName = Annotated[str, _NAME]
# What is told in the description only, because a code of our own says more than 422.
_SOME: Any = {"minItems": 1}
_Words = Annotated[str, Field(min_length=0, json_schema_extra={"minLength": 1})]
# Only where there is a limit does pydantic see half of a surrogate pair, which nothing behind it can write.
Text = Annotated[str, Field(min_length=0)]
FilterValues = dict[Text, Text | Annotated[list[Text], Field(json_schema_extra=_SOME)]]


class Strict(BaseModel):
    """A body in which every field is known and has its own type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Lenient(BaseModel):
    """A body of another protocol: what we do not know is none of our business."""

    model_config = ConfigDict(extra="ignore", strict=True, protected_namespaces=())


class Turn(Strict):
    """One side's words in a conversation."""

    role: Literal["user", "assistant"]
    content: Text


class SearchRequest(Strict):
    """A question to search for."""

    query: str = Field(min_length=1)
    collection: CollectionName | None = None
    k: int | None = Field(default=None, ge=1, le=1000)
    mode: SearchMode | None = None
    filters: FilterValues = Field(default={}, description="Allowed values by metadata key; a list holds alternatives.")


class ContextRequest(SearchRequest):
    """A question whose evidence is to be packed."""

    max_tokens: int | None = Field(default=None, ge=16, le=1_000_000)
    style: ContextStyle | None = None
    target_model: str | None = Field(default=None, max_length=200, description="Whose tokens are counted.")


class AnswerOptions(Strict):
    """How questions are answered."""

    collection: CollectionName | None = None
    k: int | None = Field(default=None, ge=1, le=1000)
    mode: AnswerMode = "standard"
    filters: FilterValues = {}
    max_prompt_tokens: int = Field(default=0, ge=0, le=1_000_000, description="0 means no limit but the model's.")
    max_tokens: int = Field(
        default=0, ge=0, le=1_000_000, description="That a language model writes; 0 means that of the settings."
    )
    max_energy_j: float = Field(default=0.0, ge=0, le=1e9, allow_inf_nan=False, description="0 means no limit.")
    verify: bool = Field(default=False, description="Judge every claim of the answer against what it cites.")


class AnswerRequest(AnswerOptions):
    """A question to answer."""

    query: str = Field(min_length=1)
    history: list[Turn] = Field(default=[], max_length=1000)


class BatchQuestion(Strict):
    """A question of a batch."""

    id: Text | int
    query: str = Field(min_length=1)


class BatchRequest(AnswerOptions):
    """Questions to answer in a job."""

    questions: list[BatchQuestion] = Field(min_length=1)


class CollectionRequest(Strict):
    """A collection to make."""

    name: CollectionName


class UploadDocument(Strict):
    """A document sent as text."""

    id: str = Field(min_length=1, max_length=500)
    text: str = Field(min_length=1)
    title: str = ""
    metadata: dict[str, str] = {}


class UploadRequest(Strict):
    """Documents sent as text."""

    documents: list[UploadDocument] = Field(min_length=1)


class ContentPart(Lenient):
    """A part of a message; only text is read."""

    type: str
    text: Text | None = None


class ChatMessage(Lenient):
    """A message of a chat; those of roles other than user and assistant are not read."""

    role: str
    content: Text | list[ContentPart] | None = None

    def words(self) -> str:
        """The text of the message."""
        if isinstance(self.content, list):
            return "\n".join(part.text or "" for part in self.content)
        return self.content or ""


class ChatExtension(Strict):
    """What OpenAI's chat has no field for."""

    collection: CollectionName | None = None
    filters: FilterValues = {}
    top_k: int | None = Field(default=None, ge=1, le=1000)
    token_budget: int = Field(default=0, ge=0, le=1_000_000)
    mode: AnswerMode | None = None
    max_energy_j: float = Field(default=0.0, ge=0, le=1e9, allow_inf_nan=False)


class StreamOptions(Lenient):
    """What a stream tells besides words."""

    include_usage: bool | None = None


class ChatRequest(Lenient):
    """A chat whose last message of the user is the question."""

    model: Text = Field(examples=["ragwatt-standard"])
    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=0, le=1_000_000)
    max_completion_tokens: int | None = Field(default=None, ge=0, le=1_000_000)
    n: int | None = Field(default=None, ge=1, le=1, description="One answer; a second one would be the same.")
    rag: ChatExtension = ChatExtension()


class EmbeddingRequest(Lenient):
    """Texts to embed."""

    model: Text = Field(examples=["all-minilm-l6-v2-int8"])
    input: _Words | Annotated[list[_Words], Field(json_schema_extra=_SOME)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    input_type: Literal["document", "query"] = "document"


class RerankDocument(Lenient):
    """A document to rank."""

    text: _Words


class RerankRequest(Lenient):
    """Documents to order by how well they fit a query."""

    model: Text | None = None
    query: str = Field(min_length=1)
    documents: list[_Words | RerankDocument] = Field(min_length=1)
    top_n: int | None = Field(default=None, ge=1)
    return_documents: bool | None = None


# Responses. They are written from the values of the core (`rag.wire`), not from these models, which only describe them.


class Response(BaseModel):
    """What every answer carries; further fields may come in later versions."""

    model_config = ConfigDict(extra="allow")

    request_id: str


class Result(Response):
    """A result of the engine."""

    collection: str
    version: int
    measurement: Json
    degraded: list[str]
    shared: bool


class SourceView(BaseModel):
    """Where a quote or passage lies."""

    model_config = ConfigDict(extra="allow")

    uri: str
    title: str
    headings: list[str]
    page: int | None
    line: int | None
    start_char: int
    end_char: int
    place: str = Field(description="In words of the source, such as 'slide 3' or 'rows 12-40'; empty where page and line say it.")
    flags: list[TrustFlag] = Field(
        description="Why it deserves less trust: text that readers do not see, or that speaks to a language model."
    )


class HitView(BaseModel):
    """A passage that was found."""

    model_config = ConfigDict(extra="allow")

    chunk_id: str
    doc_id: str
    text: str
    score: float
    source: SourceView


class CitationView(BaseModel):
    """A quote that carries a part of a text: that from ``start`` up to, not including, ``end``."""

    model_config = ConfigDict(extra="allow")

    index: int
    start: int
    end: int
    quote: str
    doc_id: str
    chunk_id: str
    source: SourceView


class SearchResponse(Result):
    """Hits, best first."""

    hits: list[HitView]


class ContextResponse(Result):
    """A packed context."""

    text: str
    n_tokens: int
    max_tokens: int
    counter: str
    citations: list[CitationView]


class AnswerResponse(Result):
    """A cited answer, or an abstention."""

    answer: str
    abstained: bool
    reason: str
    confidence: float
    citations: list[CitationView]
    generator: str


class ModelView(BaseModel):
    """A way of answering, or the embedder."""

    id: str
    object: Literal["model"]


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"]
    data: list[ModelView]


class ChatResponse(BaseModel):
    """An answer as clients of OpenAI read it; ``rag`` has all else of it."""

    id: str
    object: Literal["chat.completion"]
    model: str
    choices: list[Json]
    usage: Json
    rag: AnswerResponse


class EmbeddingResponse(BaseModel):
    """Vectors in the order of the texts."""

    object: Literal["list"]
    data: list[Json]
    model: str
    usage: Json
    rag: Json


class RerankResponse(BaseModel):
    """Documents by index, the best first."""

    model: str
    results: list[Json]
    rag: Json


class CollectionView(Response):
    """A collection."""

    name: str
    version: int
    embedder: str
    n_documents: int
    n_chunks: int
    n_duplicates: int
    n_bytes: int


class CollectionList(Response):
    """All collections that the caller may use, by name."""

    data: list[Json]


class DocumentList(Response):
    """A page of documents, by id; ``next_cursor`` is null on the last page."""

    data: list[Json]
    version: int
    next_cursor: str | None


class Deleted(Response):
    """What was deleted, and the version from which on it is gone; 0 when the collection is."""

    deleted: str
    version: int


class JobView(Response):
    """A job."""

    id: str
    kind: Literal["upload", "batch"]
    state: Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
    collection: str
    created: float
    updated: float
    progress: Json
    result: Json | None
    error: Json | None


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    param: str | None
    request_id: str


class OpenAIErrorBody(BaseModel):
    """What an error of OpenAI says."""

    message: str
    type: str
    param: str | None
    code: str | None
    request_id: str


class OpenAIError(BaseModel):
    """An error in the shape of OpenAI."""

    error: OpenAIErrorBody
