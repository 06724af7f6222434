"""Server-sent events of a chat: the verified answer in pieces of a sentence, its citations with the last of them, then the count.

An answer is checked as a whole before a word of it is sent, so the stream opens once the evidence is found, and the words follow when
they are ready. What goes wrong after that is one event with the error, and the end.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from api.errors import fault_of, openai_shape
from api.schemas import Json
from api.work import Done
from rag.text import sentence_spans
from rag.types import Answer

# Proxies close a connection that says nothing for half a minute or a minute.
_KEEP_ALIVE_S = 10.0


@dataclass(frozen=True, slots=True)
class Chat:
    """What the events of one stream have in common.

    Attributes:
        request_id: Of the request.
        model: As the client named it.
        created: Seconds since the epoch.
        with_usage: Whether token counts are wanted.
    """

    request_id: str
    model: str
    created: int
    with_usage: bool = False

    def event(self, choices: list[Json], **more: object) -> bytes:
        """One chunk."""
        value: Json = {
            "id": f"chatcmpl-{self.request_id}",
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        if self.with_usage:
            value["usage"] = None
        return _data(value | more)

    def delta(self, delta: Json, finish: str | None = None, **more: object) -> bytes:
        """A chunk with a piece of the message."""
        return self.event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}], **more)


async def events(
    chat: Chat, work: asyncio.Task[Done[Answer]], told: Callable[[Done[Answer]], Json], on_words: Callable[[], None]
) -> AsyncIterator[bytes]:
    """The stream of an answer.

    Args:
        chat: What its events share.
        work: Gives the answer.
        told: The extension ``rag`` of an answer.
        on_words: Called before the first words.

    Yields:
        Events; the last one is ``[DONE]``, or an error.
    """
    yield chat.delta({"role": "assistant", "content": ""})
    while not work.done():
        await asyncio.wait({work}, timeout=_KEEP_ALIVE_S)
        if not work.done():
            yield b": the answer is being written\n\n"
    try:
        done = work.result()
    except Exception as error:  # noqa: BLE001 - the status is sent already: the stream is where it can still be told
        yield _data(openai_shape(fault_of(error), chat.request_id))
        return
    on_words()
    answer = done.result
    *pieces, last = _pieces(answer.text)
    for piece in pieces:
        yield chat.delta({"content": piece})
    yield chat.delta({"content": last, "annotations": url_citations(answer)})
    yield chat.delta({}, "stop", rag=told(done))
    if chat.with_usage:
        yield chat.event([], usage=usage(answer))
    yield b"data: [DONE]\n\n"


def url_citations(answer: Answer) -> list[Json]:
    """Citations as OpenAI has them, in the order of the text; the whole of ours is in the extension ``rag``."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": citation.start,
                "end_index": citation.end,
                "url": citation.source.uri,
                "title": citation.source.title or citation.doc_id,
            },
        }
        for citation in answer.citations
    ]


def usage(answer: Answer) -> Json:
    """Token counts as OpenAI has them."""
    tokens = answer.measurement.tokens
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
    }


def _pieces(text: str) -> list[str]:
    """The text cut before each sentence, the marks of its citations with it; together they are the text."""
    starts = [0, *(start for start, _ in sentence_spans(text)[1:] if text[start] != "["), len(text)]
    return [text[start:end] for start, end in zip(starts, starts[1:], strict=False)] if text else [""]


def _data(value: Json) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n\n"
