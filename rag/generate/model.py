"""What a generator asks of a language model: a prompt in, words and token counts out. The models differ, the generator does not.

`Gguf` runs in this process, `ChatHttp` asks a server. Both pass `tests/contracts/test_language_model.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from rag.clocks import CpuClock, Lane
from rag.cost import Figure

Role = Literal["system", "user", "assistant"]
Ending = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered template.

    Attributes:
        template: Id, version and content hash of the template, for answers and cache keys.
        messages: Chat turns; empty for a plain completion.
        text: Text to be continued; empty for a chat.
        stop: Strings at which the answer ends.
    """

    template: str
    messages: tuple[Message, ...] = ()
    text: str = ""
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an answer may be and take.

    Attributes:
        max_tokens: Output cap, 1 or more.
        timeout_s: Longest wait for the whole answer.
        copy_from: When not empty, the answer must be a run of words of this text, where the runtime can enforce that.
    """

    max_tokens: int
    timeout_s: float
    copy_from: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote.

    Attributes:
        text: As written, without the stop string.
        n_prompt: Tokens of the prompt, by the model's own count.
        n_completion: Tokens written.
        n_cached: Tokens of the prompt that were not evaluated again; 0 when not told.
        ending: ``length`` when the cap cut it.
    """

    text: str
    n_prompt: int
    n_completion: int
    n_cached: int
    ending: Ending


class LanguageModel(Protocol):
    """Continues prompts."""

    @property
    def name(self) -> str:
        """Stable name of model and weights, for answers and cache keys."""
        ...

    @property
    def window(self) -> int:
        """Tokens that prompt and answer may have together."""
        ...

    @property
    def weights_bytes(self) -> int:
        """Size of the weights; 0 when not known."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether the work is done where its CPU is not counted here."""
        ...

    @property
    def lane(self) -> Lane | None:
        """Native threads that work for the model in this process; None when there are none or the work is elsewhere."""
        ...

    @property
    def cpu(self) -> CpuClock | None:
        """Clock of a local model server that works for us alone; None when there is none."""
        ...

    def count(self, prompt: Prompt) -> int:
        """Tokens of a prompt, never fewer than the model will count: exact where its tokenizer can be asked, else an estimate."""
        ...

    def complete(self, prompt: Prompt, limits: Limits) -> Completion:
        """Continue a prompt at temperature 0.

        A model that is missing, fails, answers garbage, cuts its answer off or takes longer than the limit is a ModelError; an
        answer is never invented.

        Args:
            prompt: Rendered.
            limits: Output cap, time and copying.

        Returns:
            What it wrote.
        """
        ...

    def energy(self, completion: Completion, latency_s: float) -> Figure | None:
        """Joules of an answer that another machine wrote.

        Args:
            completion: As `complete` gave it.
            latency_s: Seconds that it took.

        Returns:
            Modelled joules; None when nothing is known of them, or the work was counted here.
        """
        ...

    def close(self) -> None:
        """Let the model go."""
        ...
