"""`rag search | context | ask | status | repair`: arguments in, one engine call, results out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from rag.console import line, one_line, show_answer, show_context, show_search
from rag.engine import Engine, open_engine
from rag.errors import ConfigError, InputError, ModelError, RagError
from rag.meter import Meter
from rag.power import Power, open_power
from rag.settings import GeneratorName, Settings
from rag.types import Answer, Budget, ContextResult, Filters, Query, SearchResult
from rag.usage import Parser
from rag.wire import Json, answer_json, context_json, search_json

if TYPE_CHECKING:
    from rag.conversation import Turn

_PARTLY_FAILED = 3
_Result = TypeVar("_Result")
_SHARED_HELP = "Every command also takes --data-dir DIR, --config FILE and --json."


@dataclass(frozen=True, slots=True)
class _Question:
    """One line of a batch file."""

    question_id: str | int | None
    text: str


def search(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag search`.

    Args:
        argv: Arguments behind the command.
        settings: Defaults for what they leave open.
        as_json: Print JSON.

    Returns:
        Exit status.
    """
    options = _query_parser("search", "Find the passages that fit a question.", settings).parse_args(argv)

    def run(engine: Engine, text: str, meter: Meter) -> SearchResult:
        return engine.search(_query(text, options), meter)

    return _answer_all(options, settings, as_json, _Verb(run, search_json, show_search))


def context(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag context`; arguments and result as for `search`."""
    from rag.tokens import open_counter  # only this command counts for a model of the user's choice

    parser = _query_parser("context", "Pack what answers a question into a token budget.", settings)
    parser.add_argument(
        "--max-tokens", type=int, default=settings.context.max_tokens, help="the budget, never exceeded (default: %(default)s)"
    )
    parser.add_argument(
        "--for",
        dest="target_model",
        default=settings.context.target_model,
        metavar="MODEL",
        help="whose tokens are counted: a model name, or the path of a tokenizer.json; others are estimated from above",
    )
    parser.add_argument("--style", choices=("passages", "sentences"), default=settings.context.style, help="(default: %(default)s)")
    options = parser.parse_args(argv)
    counter = open_counter(options.target_model, settings.context.tiktoken_cache_dir)

    def run(engine: Engine, text: str, meter: Meter) -> ContextResult:
        return engine.context(_query(text, options), options.max_tokens, options.style, counter, meter)

    return _answer_all(options, settings, as_json, _Verb(run, context_json, show_context))


def ask(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag ask`; arguments and result as for `search`."""
    parser = _query_parser("ask", "Answer a question with citations, or abstain.", settings, with_mode=False)
    parser.add_argument(
        "--mode",
        choices=("eco", "standard", "generative", "auto"),
        default="standard",
        help="eco searches by words alone and loads no model; standard searches by words and vectors; generative lets the language "
        "model write; auto asks it only where extraction is not enough (default: %(default)s)",
    )
    parser.add_argument(
        "--generator",
        choices=("extractive", "gguf", "http"),
        help="who writes it: the sentences themselves, or the language model of the settings (default: by mode and answer.generator)",
    )
    parser.add_argument(
        "--max-prompt-tokens",
        type=int,
        default=0,
        metavar="N",
        help="tokens of the prompt of a language model (default: its window)",
    )
    parser.add_argument("--max-joules", type=float, default=0.0, metavar="J", help="active energy of an answer (default: no limit)")
    parser.add_argument(
        "--history", metavar="FILE", help="the conversation so far: JSONL of role (user or assistant) and content, oldest first"
    )
    parser.add_argument("--verify", action="store_true", help="judge every claim of the answer against what it cites")
    options = parser.parse_args(argv)
    settings = _answering(settings, options)
    options.mode = "bm25" if options.mode == "eco" else "hybrid"
    budget = Budget(max_prompt_tokens=options.max_prompt_tokens, max_energy_j=options.max_joules)
    history = _history(options.history) if options.history else ()

    def run(engine: Engine, text: str, meter: Meter) -> Answer:
        return engine.ask(_query(text, options), meter, history=history, budget=budget, verify=options.verify)

    return _answer_all(options, settings, as_json, _Verb(run, answer_json, show_answer))


def status(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag status`; arguments and result as for `search`."""
    from rag.store.admin import collection_documents, data_status

    parser = Parser(prog="rag status", description="List collections and what they hold.", epilog=_SHARED_HELP)
    parser.add_argument("--collection", metavar="C", help="only this one")
    parser.add_argument("--documents", action="store_true", help="list the documents too")
    options = parser.parse_args(argv)
    found = data_status(settings.data_dir, options.collection)
    if as_json:
        listing = [asdict(row) for row in found]
        for entry in listing if options.documents else []:
            entry["documents"] = [asdict(d) for d in collection_documents(settings.data_dir, entry["name"])]
        _print_json({"data_dir": str(settings.data_dir), "collections": listing})
        return 0
    for row in found:
        line(
            f"{row.name}: version {row.version}, {row.n_documents} documents, {row.n_chunks} chunks "
            f"({row.n_duplicates} collapsed), {row.n_bytes / 1e6:.1f} MB of indexes, embedder {row.embedder}"
        )
        for document in collection_documents(settings.data_dir, row.name) if options.documents else []:
            line(f"  {one_line(document.doc_id)}  {document.kind}, {document.n_chars} characters, {document.n_chunks} chunks")
    if not found:
        line("no collections yet; 'rag ingest FOLDER' makes one")
    return 0


def repair(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag repair`; arguments and result as for `search`."""
    from rag.store.admin import repair_data

    parser = Parser(
        prog="rag repair",
        description="Check every index against its manifest and rebuild from the catalog what is damaged.",
        epilog=_SHARED_HELP,
    )
    parser.add_argument("--force", action="store_true", help="rebuild also what is whole")
    options = parser.parse_args(argv)
    outcomes = repair_data(settings.data_dir, keep=settings.ingest.keep_versions, force=options.force)
    if as_json:
        _print_json({"collections": [asdict(outcome) for outcome in outcomes]})
    for outcome in () if as_json else outcomes:
        line(f"{outcome.name}: version {outcome.version} {outcome.verdict}{f' ({outcome.reason})' if outcome.reason else ''}")
    return 1 if any(outcome.verdict == "failed" for outcome in outcomes) else 0


@dataclass(frozen=True, slots=True)
class _Verb(Generic[_Result]):
    """What a command does with a question, and how its result is told to programs and to people."""

    run: Callable[[Engine, str, Meter], _Result]
    as_json: Callable[[_Result], Json]
    show: Callable[[_Result], None]


def _answering(settings: Settings, options: argparse.Namespace) -> Settings:
    """The settings with the generator that mode and option ask for."""
    for option, value in (("--max-prompt-tokens", options.max_prompt_tokens), ("--max-joules", options.max_joules)):
        if not 0 <= value < float("inf"):
            raise InputError(f"{option} is {value}; allowed: 0 (no limit) or more", code="usage")
    by_mode: dict[str, GeneratorName] = {"generative": "model", "auto": "auto", "eco": "extractive"}
    wanted = by_mode.get(options.mode, settings.answer.generator)
    if options.generator == "extractive":
        if options.mode in ("generative", "auto"):
            raise InputError(
                f"--mode {options.mode} asks a language model, --generator extractive none; give one of the two", code="usage"
            )
        wanted = "extractive"
    elif options.generator is not None:
        if options.mode == "eco":
            raise InputError(
                f"--mode eco loads no model; leave --generator {options.generator} out, or use --mode generative", code="usage"
            )
        if settings.language_model.kind != options.generator:
            raise ConfigError(
                f"--generator {options.generator}, and language_model.kind is {settings.language_model.kind!r}; set kind and model in "
                "[language_model] of ragwatt.toml",
                code="no_model",
            )
        wanted = "auto" if options.mode == "auto" else "model"
    return replace(settings, answer=replace(settings.answer, generator=wanted))


def _history(path: str) -> tuple[Turn, ...]:
    """The turns of a conversation file."""
    from rag.conversation import Turn

    turns = []
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"history {path} cannot be read: {error}; give JSONL of role and content", code="history") from error
    for number, text in enumerate(lines, start=1):
        if text.strip():
            try:
                record = json.loads(text)
                role, content = record["role"], record["content"]
            except (ValueError, TypeError, KeyError, RecursionError):
                role = content = None
            if role not in ("user", "assistant") or not isinstance(content, str):
                raise InputError(
                    f"{path}:{number} is not an object with role (user or assistant) and content: {text.strip()[:80]}",
                    code="history",
                )
            turns.append(Turn(role, content))
    return tuple(turns)


def _query_parser(name: str, description: str, settings: Settings, *, with_mode: bool = True) -> Parser:
    parser = Parser(prog=f"rag {name}", description=description, epilog=_SHARED_HELP, allow_abbrev=False)
    parser.add_argument("query", nargs="?", metavar="QUERY", help="the question")
    parser.add_argument(
        "--batch", metavar="FILE", help="JSONL of _id (or id) and text, - for standard input: one JSON result a line"
    )
    parser.add_argument("--collection", default=settings.collection, metavar="C", help="(default: %(default)s)")
    parser.add_argument("-k", type=int, default=settings.search.k, metavar="N", help="passages to consider (default: %(default)s)")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only documents with this metadata; values of one key are alternatives",
    )
    if with_mode:
        parser.add_argument(
            "--mode", choices=("hybrid", "bm25", "dense"), default=settings.search.mode, help="(default: %(default)s)"
        )
    return parser


def _query(text: str, options: argparse.Namespace) -> Query:
    return Query(text, options.k, options.mode, _filters(options.filter))


def _filters(given: Sequence[str]) -> Filters:
    values: dict[str, set[str]] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise InputError(f"--filter {item!r} is not KEY=VALUE; for example --filter language=en", code="filter")
        values.setdefault(key, set()).add(value)
    return {key: frozenset(allowed) for key, allowed in values.items()}


def _answer_all(options: argparse.Namespace, settings: Settings, as_json: bool, verb: _Verb[_Result]) -> int:
    if (options.query is None) == (options.batch is None):
        raise InputError("give either a QUERY or --batch FILE", code="usage")
    power = open_power(settings.energy, settings.data_dir)
    meter = Meter(power=power, from_process_start=True)
    with meter.stage("open"):
        engine = open_engine(settings, options.collection, power)
    with engine:
        if options.batch is not None:
            return _run_batch(engine, power, options.batch, verb)
        result = verb.run(engine, options.query, meter)
        if as_json:
            _print_json(verb.as_json(result))
        else:
            verb.show(result)
    return 0


def _run_batch(engine: Engine, power: Power, path: str, verb: _Verb[_Result]) -> int:
    """One JSON line a question, in order; a question that fails gets a line with its error, and the rest goes on."""
    n_failed = 0
    for item in _questions(path):
        if isinstance(item, RagError):
            outcome: Json = {"_id": None, "error": {"code": item.code, "message": str(item)}}
        else:
            try:
                outcome = {"_id": item.question_id} | verb.as_json(verb.run(engine, item.text, Meter(power=power)))
            except (InputError, ModelError) as error:
                outcome = {"_id": item.question_id, "error": {"code": error.code, "message": str(error)}}
        n_failed += "error" in outcome
        _print_json(outcome)
    return _PARTLY_FAILED if n_failed else 0


def _questions(path: str) -> Iterator[_Question | RagError]:
    try:
        file = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InputError(
            f"batch file {path} cannot be opened: {error.strerror}; give a JSONL file, or - for standard input", code="batch"
        ) from error
    with file:
        for number, raw in enumerate(file, start=1):
            if raw.strip():
                yield _question(raw, f"{path}:{number}")


def _question(raw: bytes, place: str) -> _Question | RagError:
    try:
        record = json.loads(raw.decode("utf-8-sig"))
        question_id = record.get("_id", record.get("id"))
        question = record["text"]
    except (ValueError, AttributeError, KeyError, RecursionError):
        question_id = question = None
    if not isinstance(question_id, str | int) or not isinstance(question, str):
        shown = raw.strip()[:80].decode("utf-8", "replace")
        return InputError(f"{place} is not an object with _id (or id) and text: {shown}; correct that line", code="bad_record")
    return _Question(question_id, question)


def _print_json(value: Json) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
