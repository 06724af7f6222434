"""Small real implementations that stand in for heavy ones in tests: no patches, no model files, no network."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from rag.clocks import CpuClock, Lane
from rag.cost import Figure
from rag.evidence import cite
from rag.generate.model import Completion, Limits, Message, Prompt
from rag.meter import Meter
from rag.types import Draft, Task, TextRole, Vectors

_WORD = re.compile(r"\w+|[^\w\s]")


class HashEmbedder:
    """An `Embedder` by hashing words into a bag: the more words two texts share, the higher their cosine.

    Args:
        dim: Length of a vector; the fewer components, the more unrelated words meet.
        max_tokens: Words that are read, two special tokens included.
    """

    def __init__(self, dim: int = 64, max_tokens: int = 256) -> None:
        self._dim = dim
        self._max_tokens = max_tokens

    @property
    def id(self) -> str:
        return f"hash-{self._dim}-{self._max_tokens}"

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def max_tokens(self) -> int:
        return self._max_tokens

    @property
    def lane(self) -> Lane | None:
        return None

    @property
    def is_remote(self) -> bool:
        return False

    def count_tokens(self, text: str) -> int:
        return len(self.token_spans(text)) + 2

    def token_spans(self, text: str) -> Sequence[tuple[int, int]]:
        return [match.span() for match in _WORD.finditer(text)]

    def embed(self, texts: Sequence[str], role: TextRole = "document") -> Vectors:
        vectors = np.zeros((len(texts), self._dim), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            words = [text[start:end].lower() for start, end in self.token_spans(text)][: self._max_tokens - 2]
            for word in words or ["[empty]"]:
                digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest()
                vector[int.from_bytes(digest[:4], "little") % self._dim] += 1.0 if digest[4] & 1 else -1.0
            # Words of opposite sign may cancel out; such a text points where an empty one does.
            if not vector.any():
                vector[0] = 1.0
            vector /= np.linalg.norm(vector)
        return vectors


class CountingEmbedder(HashEmbedder):
    """A `HashEmbedder` that remembers the texts it was given, in `texts`; threads may share it."""

    def __init__(self, dim: int = 64, max_tokens: int = 256) -> None:
        super().__init__(dim, max_tokens)
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str], role: TextRole = "document") -> Vectors:
        self.texts.extend(texts)
        return super().embed(texts, role)


class SilentProgress:
    """A `Progress` that tells nobody."""

    def begin(self, stage: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, steps: int = 1) -> None:
        """Nothing."""


class EchoGenerator:
    """A `Generator` that answers with the whole best passage, cited; it abstains when the confidence is too low.

    Args:
        abstain_below: Confidence under which it abstains.
    """

    def __init__(self, abstain_below: float = 0.5) -> None:
        self._abstain_below = abstain_below

    @property
    def name(self) -> str:
        return "echo"

    @property
    def template(self) -> str:
        return ""

    def generate(self, task: Task, meter: Meter | None = None) -> Draft:
        confidence = task.confidence
        if not task.candidates:
            return Draft("I found nothing.", True, (), confidence, "no passage was found")
        if confidence < self._abstain_below:
            return Draft("I am not sure.", True, (), confidence, f"confidence {confidence:.2f} is below {self._abstain_below:.2f}")
        best = task.candidates[0]
        source, quote = best.chunk.source, best.chunk.text
        citation = cite(best, 1, source.start_char, source.end_char, at=len("[1] "), length=len(quote))
        return Draft(f"[1] {quote}", False, (citation,), confidence)

    def say(self, messages: Sequence[Message], meter: Meter) -> Completion | None:
        return None

    def close(self) -> None:
        """Nothing to let go."""


class ScriptedModel:
    """A `LanguageModel` that writes what it is told to, and remembers what it was asked.

    Args:
        texts: Answers in turn; the last one again and again. An error is raised.
        window: Tokens of prompt and answer; every word of a prompt is one.
    """

    def __init__(self, *texts: str | Exception, window: int = 2048, is_remote: bool = False, weights_bytes: int = 0) -> None:
        self._texts = list(texts)
        self._window = window
        self._is_remote = is_remote
        self._weights_bytes = weights_bytes
        self.ending: Literal["stop", "length"] = "stop"
        self.joules: Figure | None = None
        self.asked: list[tuple[Prompt, Limits]] = []
        self.is_closed = False

    @property
    def name(self) -> str:
        return "scripted"

    @property
    def window(self) -> int:
        return self._window

    @property
    def weights_bytes(self) -> int:
        return self._weights_bytes

    @property
    def is_remote(self) -> bool:
        return self._is_remote

    @property
    def lane(self) -> Lane | None:
        return None

    @property
    def cpu(self) -> CpuClock | None:
        return None

    def count(self, prompt: Prompt) -> int:
        return len(prompt.text.split()) + sum(len(message.content.split()) for message in prompt.messages)

    def complete(self, prompt: Prompt, limits: Limits) -> Completion:
        self.asked.append((prompt, limits))
        text = self._texts[min(len(self.asked), len(self._texts)) - 1]
        if isinstance(text, Exception):
            raise text
        return Completion(text, self.count(prompt), len(text.split()), 0, self.ending)

    def energy(self, completion: Completion, latency_s: float) -> Figure | None:
        return self.joules

    def close(self) -> None:
        self.is_closed = True
