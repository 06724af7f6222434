"""A language model behind an OpenAI-compatible server (Ollama, llama-server, vLLM, hosted): chats and plain completions.

Answers are streamed, so that one that was cut off is known from its missing end. An answer that comes as one JSON body is taken too.
A request that runs out of time hangs up, at which servers stop writing.

References:
    OpenAI API, "Create chat completion" and "Create completion" with ``stream``; https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rag.clocks import CpuClock, Lane, process_clock
from rag.cost import Figure
from rag.errors import ConfigError, MissingExtraError, ModelError, PowerError
from rag.generate.model import Completion, Limits, Prompt
from rag.http import JsonServer, Reply, pause, says_too_long
from rag.power.remote import remote_energy
from rag.settings import LanguageModelSettings
from rag.tokens import TokenCounter, open_counter

# What a chat template adds: role and end marks, 5 or 6 tokens a message in ChatML and Llama 3.
_PER_MESSAGE = 8
# Once: the beginning, the mark of the answer, and the system message that a template has of its own: 22 tokens in SmolLM2, about 25 in
# Qwen 2.5 and Llama 3.
_PER_CHAT = 40
# Ends of a whole answer, besides "length": OpenAI, llama.cpp, vLLM and Ollama say the first, text-generation-inference the others.
_WHOLE = frozenset({"stop", "eos_token", "stop_sequence"})


@dataclass(slots=True)
class _Written:
    """What the events of an answer add up to."""

    texts: list[str] = field(default_factory=list)
    n_choices: int = 0
    finish: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)


class ChatHttp:
    """A `LanguageModel` over HTTP; safe to share between threads. Opening sends nothing.

    Args:
        settings: Which server, and how long to wait.
        sleep: Waits between tries, in seconds; a test passes its own.
        section: Where the settings stand, for messages and for the code of a server that is not to be reached.
        tiktoken_cache_dir: See `rag.tokens.open_counter`.

    Raises:
        ConfigError: If a setting cannot be used.
    """

    def __init__(
        self,
        settings: LanguageModelSettings,
        sleep: Callable[[float], None] = pause,
        *,
        section: str = "language_model",
        tiktoken_cache_dir: str = "",
    ) -> None:
        self._settings = settings
        self._tiktoken_cache_dir = tiktoken_cache_dir
        self._section = section
        self._server = JsonServer(section, "window", settings.url, settings.model, settings.api_key, sleep)
        self._cpu = _clock(section, settings.pid, self._server.host) if settings.pid else None

    @property
    def name(self) -> str:
        """``http:`` and the server's name of the model; its revision is not known."""
        return f"http:{self._settings.model}"

    @property
    def window(self) -> int:
        """Tokens of prompt and answer, from the settings."""
        return self._settings.window

    @property
    def weights_bytes(self) -> int:
        """0: not known."""
        return 0

    @property
    def is_remote(self) -> bool:
        """True unless the process of a local server is known: only then is its CPU time counted here."""
        return self._cpu is None

    @property
    def lane(self) -> Lane | None:
        """None: no native thread of this process works."""
        return None

    @property
    def cpu(self) -> CpuClock | None:
        """Clock of the local server, when its process is known."""
        return self._cpu

    def count(self, prompt: Prompt) -> int:
        """Tokens of a prompt, from above: those of its texts and what a chat template adds to them."""
        if not prompt.messages:
            return self._counter.count(prompt.text) + 1  # the mark of the beginning
        return sum(self._counter.count(message.content) + _PER_MESSAGE for message in prompt.messages) + _PER_CHAT

    def complete(self, prompt: Prompt, limits: Limits) -> Completion:
        """Continue a prompt; see `rag.generate.model.LanguageModel`. ``copy_from`` cannot be enforced and is not sent.

        Args:
            prompt: Rendered.
            limits: Output cap and time; of its time and that of the settings the shorter counts.

        Returns:
            What it wrote. Counts that the server does not tell are estimated from above.

        Raises:
            ModelError: ``timeout``, ``unauthorised``, ``model_unknown``, ``too_long``, ``cut_off``, ``bad_answer``, ``model_failed``,
                the section and ``_unavailable``, or ``http_`` and the status.
        """
        request: dict[str, object] = {
            "model": self._settings.model,
            "temperature": 0,
            "max_tokens": limits.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if prompt.stop:
            request["stop"] = prompt.stop
        if prompt.messages:
            endpoint = "/chat/completions"
            request["messages"] = [{"role": message.role, "content": message.content} for message in prompt.messages]
        else:
            endpoint = "/completions"
            request["prompt"] = prompt.text
        timeout_s = min(limits.timeout_s, self._settings.timeout_s)
        reply = self._server.post(endpoint, request, timeout_s, deadline=time.monotonic() + timeout_s, partial=True)
        written = self._written(reply)
        # Characters beyond the BMP come as two halves where a server cuts between them.
        text = "".join(written.texts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        n_prompt = _count(written.usage.get("prompt_tokens"))
        n_completion = _count(written.usage.get("completion_tokens"))
        n_cached = _count(_dict(written.usage.get("prompt_tokens_details")).get("cached_tokens"))
        return Completion(
            self._server.masked(text),
            n_prompt=self.count(prompt) if n_prompt is None else n_prompt,
            n_completion=self._counter.count(text) if n_completion is None else n_completion,
            n_cached=n_cached or _count(written.timings.get("cache_n")) or 0,
            ending="length" if written.finish == "length" else "stop",
        )

    def energy(self, completion: Completion, latency_s: float) -> Figure | None:
        """Joules that the provider's servers are modelled to need; see `rag.power.remote.remote_energy`.

        Args:
            completion: As `complete` gave it.
            latency_s: Seconds that it took.

        Returns:
            None when no provider is set, when it or the model is not known, and for a server whose CPU time is counted here.
        """
        if self._cpu or not self._settings.provider:
            return None
        try:
            return remote_energy(self._settings.provider, self._settings.model, completion.n_completion, latency_s)
        except (PowerError, MissingExtraError):
            return None

    def close(self) -> None:
        """Nothing: each request has a connection of its own."""

    @cached_property
    def _counter(self) -> TokenCounter:
        return open_counter(self._settings.model, self._tiktoken_cache_dir)

    def _written(self, reply: Reply) -> _Written:
        """The answer of a reply, or a ModelError that says what came instead."""
        written = _Written()
        try:
            for event in _events(reply):
                if said := event.get("error"):
                    raise self._failed(json.dumps(said))
                _add(event, written)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise self._unusable(f"{type(error).__name__}: {error}") from error
        if not written.n_choices and reply.is_whole:
            raise self._unusable(reply.body.decode("utf-8", "replace").strip() or "nothing")
        if not written.finish:
            raise self._server.fault("cut its answer off", "try again, or see the log of the server", "cut_off")
        if written.finish not in _WHOLE and written.finish != "length":
            raise self._unusable(f"it ended by {written.finish!r}")
        return written

    def _failed(self, said: str) -> ModelError:
        code = "too_long" if says_too_long(said) else "model_failed"
        return self._server.fault(f"failed: {said}", f"see the log of the server, and check {self._section}.window", code)

    def _unusable(self, found: str) -> ModelError:
        return self._server.fault(
            f"gave no usable answer: {found}",
            f"check that {self._settings.model!r} is a language model and {self._section}.url ends before /chat/completions",
            code="bad_answer",
        )


def _clock(section: str, pid: int, host: str) -> CpuClock:
    """The clock of a local server, or a ConfigError."""
    if pid < 0 or not _is_loopback(host):
        raise ConfigError(
            f"{section}.pid is {pid} and {section}.url names {host}; allowed: the process of a server on 127.0.0.1, or 0 for none"
        )
    try:
        return process_clock(pid)
    except (ProcessLookupError, OverflowError) as error:
        raise ConfigError(f"{section}.pid is {pid}, but no such process runs; set it to that of the server, or to 0") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _events(reply: Reply) -> Iterator[dict[str, Any]]:
    """The JSON objects of a stream, or the one of a body that is none; ValueError or TypeError when they are not that.

    An unfinished last line is dropped, as the standard wants it.
    """
    if reply.body.lstrip().startswith(b"{"):
        if reply.is_whole:
            yield _object(reply.body) | {"is_end": True}
        return
    for line in reply.body.split(b"\n")[:-1]:
        if line.startswith(b"data:"):
            data = line.removeprefix(b"data:").strip()
            yield {"is_end": True} if data == b"[DONE]" else _object(data)


def _object(data: bytes) -> dict[str, Any]:
    value = json.loads(data)
    if not isinstance(value, dict):
        raise TypeError(f"{type(value).__name__} instead of an object")
    return value


def _add(event: dict[str, Any], written: _Written) -> None:
    """Add an event; TypeError or AttributeError when it is none of an answer."""
    for choice in event.get("choices") or ():
        written.n_choices += 1
        # A chat has its words in "delta" of a stream or "message" of a body, a plain completion has them beside.
        turn = choice.get("delta", choice.get("message"))
        text = choice.get("text") if turn is None else turn.get("content")
        if isinstance(text, str):
            written.texts.append(text)
        # In a stream null comes with the role, before the first word, while a model thinks, and with the end.
        elif text is not None or event.get("is_end"):
            raise TypeError(f"the text is {type(text).__name__}")
        written.finish = str(choice.get("finish_reason") or written.finish)
    if event.get("is_end") and written.n_choices:
        written.finish = written.finish or "stop"
    written.usage = _dict(event.get("usage")) or written.usage
    written.timings = _dict(event.get("timings")) or written.timings


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
