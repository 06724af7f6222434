"""What each way of answering buys: right answers, tokens, CPU seconds and joules on XQuAD, the whole collection as the corpus.

``extractive`` and ``auto`` answer every question; ``generative`` and ``passages`` (the same model with the five best passages instead of
sentences) answer a sample, because they take a hundred times as long. An answer is right when it contains the gold answer (SQuAD
normalisation, whole words); abstentions are wrong. The rule of the cascade by itself is judged by `bench.escalation`.

    python -m bench.cascade --gguf MODEL.gguf
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.corpora import Corpus, open_corpus
from bench.machine import CHECKOUT, Machine, commit, this_machine
from bench.result import result_parser, today, write_result
from eval.answers import contains_answer, token_f1
from eval.datasets import EvalQuery
from rag.generate.cascade import question_kind
from rag.meter import Meter
from rag.power import open_power
from rag.settings import GeneratorName, LanguageModelSettings, Settings
from rag.types import Answer, Query

_FORMAT = 2
_N_SAMPLE = 40
# The reference machine reads 236 and writes 90 tokens a CPU-second with the 135M model (facts: slm, section 2).
_BARS = {"auto_cpu_ratio": 1.5, "gguf_cpu_s": 0.45, "prompt_ratio": 1 / 3}


@dataclass(frozen=True, slots=True)
class Way:
    """One way of answering.

    Attributes:
        name: Of the way.
        n: Questions answered.
        contained: Share of answers that contain the gold answer.
        f1: Mean token F1.
        abstained: Share of abstentions.
        n_asked: Questions for which a language model was asked.
        prompt_tokens: Mean of the questions for which it was.
        completion_tokens: Likewise.
        cpu_s: Mean CPU seconds of an answer, model loaded.
        cpu_s_median: Median.
        energy_j: Mean joules of an answer, and the ends of the band.
        energy_lo_j: Lower end.
        energy_hi_j: Upper end.
        method: How the joules came about.
        cpu_s_per_right: CPU seconds for an answer that contains the gold answer.
    """

    name: str
    n: int
    contained: float
    f1: float
    abstained: float
    n_asked: int
    prompt_tokens: float
    completion_tokens: float
    cpu_s: float
    cpu_s_median: float
    energy_j: float
    energy_lo_j: float
    energy_hi_j: float
    method: str
    cpu_s_per_right: float | None


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar and its figure."""

    what: str
    figure: float
    limit: float
    met: bool


@dataclass(frozen=True, slots=True)
class Result:
    """Everything, as it is written."""

    format: int
    commit: str
    date: str
    machine: Machine
    model: str
    kinds: dict[str, int]
    ways: tuple[Way, ...]
    bars: tuple[Bar, ...]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write the result."""
    options = _options(argv)
    with TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        corpus = open_corpus(options.data / "xquad-en", work)
        questions = [query for query in corpus.dataset.queries if query.answers][: options.limit]
        ways = _ways(corpus, questions, options.gguf, options.sample)
        corpus.store.close()
    result = Result(
        format=_FORMAT,
        commit=commit(),
        date=today(),
        machine=this_machine(),
        model=options.gguf.name,
        kinds={kind: sum(question_kind(q.text) == kind for q in questions) for kind in ("fact", "explain", "compare", "summarise")},
        ways=ways,
        bars=_bars({way.name: way for way in ways}),
    )
    for way in ways:
        print(
            f"{way.name:<18} n {way.n:5} contained {way.contained:.3f} F1 {way.f1:.3f} prompt {way.prompt_tokens:6.0f} "
            f"CPU-s {way.cpu_s:.4f} asked {way.n_asked}"
        )
    for bar in result.bars:
        print(f"{'ok  ' if bar.met else 'MISS'} {bar.what}: {bar.figure:.4f}, bar {bar.limit:.4f}")
    write_result(result, options.out, "cascade")


def _ways(corpus: Corpus, questions: Sequence[EvalQuery], gguf: Path, n_sample: int) -> tuple[Way, ...]:
    model = LanguageModelSettings(kind="gguf", model=str(gguf), timeout_s=600.0)
    sample = sorted(questions, key=lambda q: hashlib.sha256(q.query_id.encode()).hexdigest())[:n_sample]

    def settings(generator: GeneratorName, **answer: object) -> Settings:
        changed = replace(corpus.settings.answer, generator=generator, **answer)  # type: ignore[arg-type]
        return replace(corpus.settings, answer=changed, language_model=model)

    return (
        *_compared(corpus, {"extractive": settings("extractive"), "auto": settings("auto")}, questions),
        *_compared(corpus, {"extractive sample": settings("extractive"), "generative": settings("model")}, sample),
        *_compared(corpus, {"passages": settings("model", evidence="passages")}, sample),
    )


def _compared(corpus: Corpus, ways: dict[str, Settings], questions: Sequence[EvalQuery]) -> tuple[Way, ...]:
    """Ways of answering, in turns on every question, so that a busy neighbour hurts all of them."""
    print(", ".join(ways), flush=True)
    power = open_power(corpus.settings.energy, corpus.settings.data_dir)
    engines = {name: corpus.engine(settings) for name, settings in ways.items()}
    for engine in engines.values():
        engine.ask(Query(questions[0].text), Meter(power=power))  # loads what is loaded once
    answers: dict[str, list[Answer]] = {name: [] for name in ways}
    for question in questions:
        for name, engine in engines.items():
            answers[name].append(engine.ask(Query(question.text), Meter(power=power)))
    return tuple(_way(name, answers[name], questions) for name in ways)


def _way(name: str, answers: Sequence[Answer], questions: Sequence[EvalQuery]) -> Way:
    right = [contains_answer(a.text, q.answers) and not a.abstained for a, q in zip(answers, questions, strict=True)]
    costs = [answer.measurement for answer in answers]
    energies = [cost.energy.total for cost in costs if cost.energy]
    written = [cost.tokens for cost in costs if cost.tokens.prompt]
    return Way(
        name=name,
        n=len(answers),
        contained=statistics.fmean(right),
        f1=statistics.fmean(token_f1(_bare(a), q.answers) for a, q in zip(answers, questions, strict=True)),
        abstained=statistics.fmean(a.abstained for a in answers),
        n_asked=len(written),
        prompt_tokens=_mean(tokens.prompt for tokens in written),
        completion_tokens=_mean(tokens.completion for tokens in written),
        cpu_s=statistics.fmean(cost.cpu_s for cost in costs),
        cpu_s_median=statistics.median(cost.cpu_s for cost in costs),
        energy_j=statistics.fmean(e.value for e in energies),
        energy_lo_j=statistics.fmean(e.lo for e in energies),
        energy_hi_j=statistics.fmean(e.hi for e in energies),
        method=energies[0].method,
        cpu_s_per_right=sum(cost.cpu_s for cost in costs) / sum(right) if any(right) else None,
    )


def _bare(answer: Answer) -> str:
    """The answer without its citation markers, which no gold answer has."""
    text = answer.text
    for citation in answer.citations:
        text = text.replace(f" [{citation.index}]", "")
    return text


def _mean(numbers: Iterable[float]) -> float:
    found = list(numbers)
    return statistics.fmean(found) if found else 0.0


def _bars(ways: dict[str, Way]) -> tuple[Bar, ...]:
    extractive, auto, generative, passages = (ways[name] for name in ("extractive", "auto", "generative", "passages"))
    ratio, share = auto.cpu_s / extractive.cpu_s, generative.prompt_tokens / passages.prompt_tokens
    return (
        Bar(
            "auto contains the answer as often as extraction",
            auto.contained,
            extractive.contained,
            auto.contained >= extractive.contained,
        ),
        Bar("CPU seconds of auto over extraction", ratio, _BARS["auto_cpu_ratio"], ratio <= _BARS["auto_cpu_ratio"]),
        Bar(
            "CPU seconds of a warm answer of the model",
            generative.cpu_s,
            _BARS["gguf_cpu_s"],
            generative.cpu_s <= _BARS["gguf_cpu_s"],
        ),
        Bar("prompt tokens, sentences over five passages", share, _BARS["prompt_ratio"], share <= _BARS["prompt_ratio"]),
        Bar("F1 of sentences, at least that of five passages", generative.f1, passages.f1, generative.f1 >= passages.f1),
    )


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = result_parser(__doc__)
    parser.add_argument("--gguf", type=Path, default=CHECKOUT / ".cache" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--sample", type=int, default=_N_SAMPLE)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args(argv)
    if not options.gguf.is_file():
        parser.error(f"no language model at {options.gguf}; 'make test' fetches one, or name another with --gguf")
    return options


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"{time.monotonic() - began:.0f} s")
