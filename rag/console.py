"""Results for people: through rich on a terminal, plain lines elsewhere. Costs are one line under every result."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rag.cost import Measurement
from rag.power.figure import said
from rag.types import Answer, Citation, ContextResult, SearchResult, Source, TrustFlag

# A passage in a list of hits is a reminder, not the text.
_MAX_SNIPPET_CHARS = 240
_WARNINGS: dict[TrustFlag, str] = {
    "hidden": "hidden text, which a reader of the document does not see",
    "instructions": "text that speaks to a language model, not to people",
}


def show_search(result: SearchResult) -> None:
    """Print hits with both scores and where they are."""
    for place, hit in enumerate(result.hits, start=1):
        source = hit.chunk.source
        scores = " ".join(
            f"{name} {value:.3f}" for name, value in (("bm25", hit.bm25), ("cosine", hit.cosine)) if value is not None
        )
        emphasised(f"{place:>2}. {where(source)}", f"  score {hit.score:.3f}  {scores}")
        line("    " + shortened(hit.chunk.text))
        _warn_of(source)
        if source.also_in:
            line(f"    also in: {', '.join(source.also_in)}")
    if not result.hits:
        line("no passage matches")
    show_cost(result.measurement)


def show_context(result: ContextResult) -> None:
    """Print the context as it would be sent, then where its parts come from."""
    line(result.context.text)
    line("")
    _show_sources(result.context.citations)
    line(f"{result.context.n_tokens} of {result.context.max_tokens} tokens, counted by {result.context.counter}")
    show_cost(result.measurement)


def show_answer(answer: Answer) -> None:
    """Print an answer with its sources."""
    emphasised(answer.text, "")
    if answer.abstained:
        line(f"({answer.reason})")
    else:
        line("")
        _show_sources(answer.citations)
    if answer.question:
        faint(f"searched for: {answer.question}")
    for sentence in answer.unverified:
        faint(f"not verified: {sentence}")
    for claim in answer.grounding.claims if answer.grounding else ():
        flags = f", {', '.join(claim.flags)}" if claim.flags else ""
        support = "" if claim.support is None else f" {claim.support:.2f}{flags}"
        faint(f"claim {claim.verdict}{support}{claim.reason and f' ({claim.reason})'}: {answer.text[claim.start : claim.end]}")
    if len(answer.steps) > 1 or any(step.generator != "extractive" for step in answer.steps):
        for step in answer.steps:
            tokens = f", {step.n_prompt} + {step.n_completion} tokens" if step.n_prompt else ""
            detail = f": {step.detail}" if step.detail else ""
            faint(f"step: {step.generator} {step.outcome}{tokens} ({step.reason}){detail}")
    show_cost(answer.measurement)


def show_cost(measurement: Measurement) -> None:
    """Print what it cost, on one line."""
    tokens = measurement.tokens
    parts = [f"{measurement.cpu_s:.3f} CPU-s", f"{measurement.wall_s:.3f} s"]
    parts += [f"{stage.name} {stage.cpu_s * 1000:.0f} ms" for stage in measurement.stages if stage.cpu_s >= 0.0005]
    n_tokens = tokens.context + tokens.prompt + tokens.completion
    if n_tokens:
        parts.append(f"{n_tokens} tokens, {tokens.saved} saved")
    if measurement.cache == "hit":
        saved = f", {said(measurement.saved_j)}" if measurement.saved_j else ""
        parts.append(f"from the cache, saved {measurement.saved_cpu_s:.3f} CPU-s{saved}")
    parts.append(f"peak {measurement.peak_rss_bytes / 1e6:.0f} MB")
    energy = measurement.energy
    if energy is not None:
        parts += [
            said(energy.total),
            f"{said(energy.carbon)} CO2e" + (" at the world average" if "region" in energy.assumed else ""),
        ]
        if "remote_energy" in energy.not_modelled:
            parts.append("energy of the remote server not known")
    faint("cost: " + " | ".join(parts))
    for note in energy.notes if energy else ():
        faint(f"note: {note}")


def _show_sources(citations: Iterable[Citation]) -> None:
    for citation in citations:
        source = citation.source
        line(f"[{citation.index}] {where(source)}, characters {source.start_char}-{source.end_char}")
        _warn_of(source)


def _warn_of(source: Source) -> None:
    for flag in source.flags:
        line(f"    warning: {_WARNINGS[flag]}")


def where(source: Source) -> str:
    """A place in a document, as people write it: in words of the source where there are some, else line and page."""
    place = one_line(source.uri)
    if source.place:
        place += f", {one_line(source.place)}"
    else:
        place += (f":{source.line}" if source.line is not None else "") + (
            f", page {source.page}" if source.page is not None else ""
        )
    return place + (f" ({' > '.join(source.headings)})" if source.headings else "")


def one_line(text: str) -> str:
    """A name on one line, whatever characters somebody put into it."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def shortened(text: str) -> str:
    """The beginning of a text on one line."""
    flat = " ".join(text[: 2 * _MAX_SNIPPET_CHARS].split())
    return flat if len(flat) <= _MAX_SNIPPET_CHARS else flat[: _MAX_SNIPPET_CHARS - 1] + "…"


def line(text: str) -> None:
    """Print a line as it is; control characters, which could drive a terminal, are shown as U+FFFD."""
    sys.stdout.write(_harmless(text) + "\n")


def emphasised(text: str, rest: str) -> None:
    """Print a line whose first part stands out on a terminal."""
    _styled(text, "bold", rest)


def faint(text: str) -> None:
    """Print a line that stays in the background on a terminal."""
    _styled(text, "dim", "")


def _styled(text: str, style: str, rest: str) -> None:
    text, rest = _harmless(text), _harmless(rest)
    if not sys.stdout.isatty():
        line(text + rest)
        return
    from rich.console import Console  # 75 ms of CPU, for people only
    from rich.text import Text

    sys.stdout.flush()
    Console(highlight=False).print(Text(text, style=style) + Text(rest), soft_wrap=True)


def _harmless(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
