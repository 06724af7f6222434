"""The settings tree: every section a frozen value, every default the shipped one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rag.types import ContextStyle, SearchMode

GeneratorName = Literal["extractive", "model", "auto"]


@dataclass(frozen=True, slots=True)
class EmbedderSettings:
    """Which embedder turns text into vectors.

    Attributes:
        kind: ``onnx`` runs a model in this process, ``http`` asks an OpenAI-compatible server.
        model: Name of a shipped or added model (`rag models list`), or the server's name for it.
        url: Base URL of the server, up to and without ``/embeddings``.
        api_key: Sent as a bearer token when not empty; never printed.
        timeout_s: Longest wait for one request to the server.
        max_tokens: Tokens that an ``http`` model reads; an ``onnx`` model's card knows its own.
        threads: Threads that work on one text of an ``onnx`` model; more answer sooner and cost more CPU seconds.
    """

    kind: Literal["onnx", "http"] = "onnx"
    model: str = "all-minilm-l6-v2-int8"
    url: str = ""
    api_key: str = field(default="", repr=False)
    timeout_s: float = 30.0
    max_tokens: int = 256
    threads: int = 1


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """How files become chunks.

    Attributes:
        max_chunk_tokens: Upper limit of the embedded text of a chunk; 0 means as many as the embedder reads.
        near_duplicate: Estimated Jaccard similarity of word 3-shingles from which two chunks are one; 1.0 collapses exact copies
            only.
        max_file_bytes: Larger files are reported, not read.
        max_output_bytes: What is made of one file may be as large as this, counted as it leaves the process that reads it.
        file_timeout_s: Wall-clock seconds for one file.
        file_cpu_s: CPU seconds for one file.
        file_memory_bytes: Address space of a process that reads files.
        workers: Processes that read and threads that embed; 0 means one a core.
        boilerplate_share: A block of text that stands in this share of the documents, and in ten at least, is left out of chunks; 1.0
            leaves nothing out.
        ocr_languages: Languages of scanned pages, as tesseract names them, joined by ``+``; empty reads no scans.
        keep_versions: Published versions kept besides those that a reader holds open; at least 1.
    """

    max_chunk_tokens: int = 0
    near_duplicate: float = 0.85
    max_file_bytes: int = 256_000_000
    max_output_bytes: int = 256_000_000
    file_timeout_s: float = 60.0
    file_cpu_s: int = 60
    file_memory_bytes: int = 1_500_000_000
    workers: int = 0
    boilerplate_share: float = 0.3
    ocr_languages: str = "eng"
    keep_versions: int = 2


@dataclass(frozen=True, slots=True)
class WebSettings:
    """What `rag ingest https://...` may fetch.

    Attributes:
        enabled: Fetch at all. Off, so that nobody's documents make this machine ask for addresses.
        max_pages: Pages fetched from one address given, its sitemaps and links included.
        max_depth: Links followed from the address given; 0 fetches only it.
        max_page_bytes: Larger answers are reported, not kept; counted after decompression.
        timeout_s: Wall-clock seconds for one page, redirects included.
        user_agent: By which sites and their robots.txt know us.
        allow_http: Also fetch over HTTP without encryption.
        allow_private: Also fetch from loopback and private addresses, for a site in one's own network.
    """

    enabled: bool = False
    max_pages: int = 200
    max_depth: int = 1
    max_page_bytes: int = 16_000_000
    timeout_s: float = 30.0
    user_agent: str = "ragwatt"
    allow_http: bool = False
    allow_private: bool = False


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How candidates are found and fused.

    Attributes:
        k: Hits returned.
        mode: Indexes asked.
        depth: Candidates taken from each index before fusion.
        dense_weight: Share of the cosine in the fused score; 0.65 to 0.7 is a plateau for the shipped embedder.
        max_query_chars: Longer queries are refused.
    """

    k: int = 10
    mode: SearchMode = "hybrid"
    depth: int = 100
    dense_weight: float = 0.7
    max_query_chars: int = 10_000


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """How candidates are packed into a token budget.

    Attributes:
        max_tokens: The budget.
        style: ``sentences`` keeps what answers the question, ``passages`` keeps whole chunks.
        target_model: Whose tokens are counted; empty means the shipped tokenizer with a safety margin.
        tiktoken_cache_dir: Folder with the vocabulary files of tiktoken, which are never downloaded.
    """

    max_tokens: int = 512
    style: ContextStyle = "sentences"
    target_model: str = ""
    tiktoken_cache_dir: str = ""


@dataclass(frozen=True, slots=True)
class AnswerSettings:
    """How an answer is written.

    Attributes:
        generator: Who writes it.
        abstain_below: Confidence under which the extractive generator says that it does not know; negative means never abstain.
            Calibrated on half of XQuAD, each question against the same with its paragraph removed (`bench/abstain.py`, figures in
            `bench/results/retrieval-*.json`): on the other half 0.51 keeps 90 % of the answerable questions and accepts 10 % of the
            others. Without vectors (eco) the same balance lies at 0.54.
        max_sentences: Sentences of an extractive answer.
        template: Prompt of a language model: ``few-shot``, ``chat`` or the path of a TOML file; empty takes what suits the model.
        evidence: What a language model reads: the best ``sentences``, or the five best ``passages``.
        max_prompt_tokens: Tokens of a prompt; 0 means what the model's window leaves.
        max_completion_tokens: Tokens that a language model writes for one answer.
        max_energy_j: Active joules of one answer; the mode and the length of the answer are chosen to keep it. 0 means no limit.
        unverified: What becomes of a sentence that no cited passage carries: ``drop`` it, or keep and ``flag`` it.
        rewrite: How a question that leans on a conversation is made to stand alone: by ``rule``, or by the language ``model`` where the
            rule sees that it leans; what the model writes is checked, and the rule stands in.
        calibration: File of `rag eval calibrate`, for answers whose claims are judged; empty takes the shipped calibration.
    """

    generator: GeneratorName = "extractive"
    abstain_below: float = 0.51
    max_sentences: int = 2
    template: str = ""
    evidence: ContextStyle = "sentences"
    max_prompt_tokens: int = 0
    max_completion_tokens: int = 96
    max_energy_j: float = 0.0
    unverified: Literal["drop", "flag"] = "drop"
    rewrite: Literal["rule", "model"] = "rule"
    calibration: str = ""


@dataclass(frozen=True, slots=True)
class LanguageModelSettings:
    """A language model that can write answers.

    Attributes:
        kind: ``none``, ``gguf`` in this process, or ``http`` for an OpenAI-compatible server.
        model: Of ``gguf`` the name of an added model (`rag models add FILE.gguf`) or a path; of ``http`` the server's name for it.
        url: Base URL of the server, up to and without ``/chat/completions``.
        api_key: Sent as a bearer token when not empty; never printed.
        timeout_s: Longest wait for one whole answer.
        window: Tokens of prompt and answer together.
        threads: Of a ``gguf`` model; more than one answers sooner for the same CPU.
        pid: Process of a server on this machine that works for nobody else: its CPU seconds are counted.
        provider: Name that EcoLogits has for a hosted service, for its energy.
    """

    kind: Literal["none", "gguf", "http"] = "none"
    model: str = ""
    url: str = ""
    api_key: str = field(default="", repr=False)
    timeout_s: float = 60.0
    window: int = 2048
    threads: int = 1
    pid: int = 0
    provider: str = ""


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Answers that are kept.

    Attributes:
        mode: ``exact`` serves the same question again, ``semantic`` one that says the same.
        ttl_s: Longest life of an answer.
        max_entries: Answers kept; the longest unused go first.
    """

    mode: Literal["off", "exact", "semantic"] = "off"
    ttl_s: float = 604_800.0
    max_entries: int = 10_000


@dataclass(frozen=True, slots=True)
class EnergySettings:
    """How CPU seconds become joules and grams.

    Attributes:
        region: Country or grid region whose carbon intensity counts (`rag energy regions`); empty means not told: the world average.
        pue: Power usage effectiveness of the site, all its power by that of its computers; 1.0 adds nothing.
        reserved_threads: Hardware threads whose idle power the work bears; 0 means one for a command, all for a service.
        embodied_g_per_thread_s: Grams that making the hardware emitted, by hardware thread and second of its life: a server of 1000 kg,
            256 threads, five years. 0 leaves it out.
        powercap_root: Folder of the energy counters, also one that a host exports to its guest.
        calibration: File that `rag energy calibrate` wrote; empty means ``calibration.json`` in the data directory.
        gpu: ``on`` counts the GPUs of this machine through NVML.
    """

    region: str = ""
    pue: float = 1.0
    reserved_threads: int = 0
    embodied_g_per_thread_s: float = 2.5e-5
    powercap_root: Path = Path("/sys/class/powercap")
    calibration: str = ""
    gpu: Literal["off", "on"] = "off"


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """What `rag eval` asks besides this process.

    Attributes:
        url: Base URL of a running service; empty runs pipelines in this process.
        api_key: For that service.
    """

    url: str = ""
    api_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """How the service takes and refuses requests.

    Attributes:
        host: Address to listen on; another than loopback needs a key first.
        port: Port to listen on; 0 takes a free one.
        max_query_bytes: Largest body of a request that is no upload.
        max_upload_bytes: Largest body of an upload.
        workers: Requests worked on at a time; 0 means one a core.
        queue: Requests that wait behind those; more are refused at once.
        timeout_s: Longest wait for one answer, the queue included.
        embed_timeout_s: Of it, for the vector of a query; then the query is searched by words alone.
        search_timeout_s: Of it, for each stage of search.
        generate_timeout_s: Of it, for a language model; then the answer is extracted.
        drain_s: Longest wait for requests in flight after SIGTERM.
        poll_s: Seconds between looks for a new version.
        idle_unload_s: Seconds without a request after which the models are let go; 0 means never.
        max_batch: Questions of one batch.
        max_texts: Texts of one call of embeddings or rerank.
        keep_jobs_s: How long a job that is over, and its idempotency key, are kept.
        log_queries: ``on`` writes the text of queries into the log.
        cors_origins: Origins that browsers may call from, with commas between; empty closes the service to other sites.
        otel_endpoint: Base URL of an OpenTelemetry collector that takes OTLP over HTTP; empty tells none. It needs the extra [otel].
    """

    host: str = "127.0.0.1"
    port: int = 8000
    max_query_bytes: int = 1_000_000
    max_upload_bytes: int = 32_000_000
    workers: int = 0
    queue: int = 64
    timeout_s: float = 60.0
    embed_timeout_s: float = 5.0
    search_timeout_s: float = 5.0
    generate_timeout_s: float = 45.0
    drain_s: float = 30.0
    poll_s: float = 1.0
    idle_unload_s: float = 900.0
    max_batch: int = 1000
    max_texts: int = 256
    keep_jobs_s: float = 86_400.0
    log_queries: Literal["off", "on"] = "off"
    cors_origins: str = ""
    otel_endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set.

    Attributes:
        data_dir: Catalog and snapshots.
        collection: Used when a command names none.
        embedder: See `EmbedderSettings`.
        ingest: See `IngestSettings`.
        web: See `WebSettings`.
        search: See `SearchSettings`.
        context: See `ContextSettings`.
        answer: See `AnswerSettings`.
        language_model: Writes answers of mode ``generative``, and of ``auto`` where extraction is not enough.
        larger_model: Asked by ``auto`` when the answer of the first cannot be verified.
        judge: Gives its opinion on answers in `rag eval judge`; only servers, ``kind`` is ``http``.
        cache: See `CacheSettings`.
        eval: See `EvalSettings`.
        api: See `ServiceSettings`; not called ``service``, because Kubernetes sets RAG_SERVICE_HOST for a service called "rag".
        energy: See `EnergySettings`.
    """

    data_dir: Path = Path("ragwatt-data")
    collection: str = "default"
    embedder: EmbedderSettings = field(default_factory=EmbedderSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    web: WebSettings = field(default_factory=WebSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    context: ContextSettings = field(default_factory=ContextSettings)
    answer: AnswerSettings = field(default_factory=AnswerSettings)
    language_model: LanguageModelSettings = field(default_factory=LanguageModelSettings)
    larger_model: LanguageModelSettings = field(default_factory=LanguageModelSettings)
    judge: LanguageModelSettings = field(default_factory=LanguageModelSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    eval: EvalSettings = field(default_factory=EvalSettings)
    api: ServiceSettings = field(default_factory=ServiceSettings)
    energy: EnergySettings = field(default_factory=EnergySettings)
