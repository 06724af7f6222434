"""A language model in this process: a GGUF file run by llama.cpp. The only file that imports xllamacpp (extra [local]).

xllamacpp brings llama.cpp's HTTP server and cannot leave it out. Ours listens on a Unix socket in a folder that only this user may
enter, never on a port, and we ask it there: a call in native code could not be left before the prompt is read, a socket can be left
when the time is up.

Choices, measured (facts: slm):
- One thread unless asked otherwise: two cost the same CPU a token when idle ones sleep, and up to 40 times as much when they spin.
- No cache of old prompts in memory (8 GiB by default). The prefix that a prompt shares with the one before it is kept anyway.
- Memory is not fitted by trial, which doubles the CPU time of loading: the file and its window are compared with what is free.
- A prompt is read in steps of 128 tokens, at the same speed as 512: nobody waits longer than a step for a call that was given up.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from rag.clocks import CpuClock, Lane
from rag.errors import ConfigError, MissingExtraError, ModelError
from rag.generate.memory import check_memory
from rag.generate.model import Completion, Ending, Limits, Prompt
from rag.http import wait_to_read
from rag.models.gguf import GgufModel
from rag.settings import openmp_wait_policy

_STEP_TOKENS = 128
_QUIET = -1
# Counting and beginning take milliseconds, but counting waits for the answer that another thread has asked for.
_PATIENCE_S = 600.0
_WAIT_POLICY = "OMP_WAIT_POLICY"


@dataclass(frozen=True, slots=True)
class _Runtime:
    """A loaded model; it goes when ``server`` does."""

    server: object
    folder: tempfile.TemporaryDirectory[str]
    address: str


class Gguf:
    """A `LanguageModel` from a GGUF file; safe to share between threads, which wait for each other.

    The file is loaded at the first use, also after `close`. Loading is charged to who asked first and cannot be broken off.
    The CPU time of a call that ran out of time is charged until then; what the model still does, up to a second and a step of 128
    tokens, is charged to nobody or to the call that waits for it.

    Args:
        model: As `rag.models.gguf.find_gguf` finds it.
        window: Tokens that prompt and answer may have together, 1 to what the model was made for.
        threads: Threads that work on one answer, at least 1.

    Raises:
        ConfigError: If window or threads are below 1.
    """

    def __init__(self, model: GgufModel, *, window: int, threads: int) -> None:
        if min(window, threads) < 1:
            raise ConfigError(f"window is {window} and threads is {threads}; both must be 1 or more")
        self._model = model
        self._window = window
        self._threads = threads
        self._lane = Lane()
        self._lock = threading.Lock()
        self._runtime: _Runtime | None = None

    @property
    def name(self) -> str:
        """Id of the model."""
        return self._model.id

    @property
    def window(self) -> int:
        """As given."""
        return self._window

    @property
    def weights_bytes(self) -> int:
        """Size of the file."""
        return self._model.size_bytes

    @property
    def is_remote(self) -> bool:
        """False: the work is done here."""
        return False

    @property
    def lane(self) -> Lane:
        """The threads of llama.cpp."""
        return self._lane

    @property
    def cpu(self) -> CpuClock | None:
        """None: the lane tells."""
        return None

    def count(self, prompt: Prompt) -> int:
        """Tokens of a prompt, exactly, with those of the chat template and the special ones."""
        with self._alone(_PATIENCE_S) as deadline:
            if prompt.messages:
                return int(self._ask("/v1/chat/completions/input_tokens", _messages(prompt), deadline)["input_tokens"])
            request = {"content": prompt.text, "add_special": True, "parse_special": True}
            return len(self._ask("/tokenize", request, deadline)["tokens"])

    def complete(self, prompt: Prompt, limits: Limits) -> Completion:
        """Continue a prompt; see `rag.generate.model.LanguageModel.complete`.

        Args:
            prompt: Rendered.
            limits: ``copy_from`` is enforced on a plain completion and ignored on a chat. The answer then begins with a space.

        Returns:
            What it wrote. A copy that the cap cut ends with a whole word.

        Raises:
            ModelError: ``runtime_unloadable``, ``model_too_large`` or ``model_damaged`` when loading; ``timeout``, ``too_long``,
                ``not_copied``, ``model_failed`` or ``bad_answer`` when answering. A missing extra is a MissingExtraError, threads that
                would spin are a ConfigError.
        """
        request: dict[str, object] = {
            "max_tokens": limits.max_tokens,
            "temperature": 0,
            "stop": list(prompt.stop),
            "cache_prompt": True,
        }
        if prompt.messages:
            path, request = "/v1/chat/completions", request | _messages(prompt)
        else:
            path, request = "/v1/completions", request | {"prompt": prompt.text}
        copies = bool(limits.copy_from) and not prompt.messages
        if copies:
            request["grammar"] = _copy_grammar(limits.copy_from)
        with self._alone(limits.timeout_s) as deadline:
            completion = _completion(self._ask(path, request, deadline))
        return checked_copy(completion, limits.copy_from) if copies else completion

    def energy(self, completion: Completion, latency_s: float) -> None:
        """None: the work was counted here."""

    def close(self) -> None:
        """Unload the model, as soon as nobody asks it."""
        with self._lock:
            runtime, self._runtime = self._runtime, None
            if runtime:
                folder = runtime.folder
                del runtime  # the last reference: this joins the native threads
                folder.cleanup()

    @contextmanager
    def _alone(self, timeout_s: float) -> Iterator[float]:
        """Hold the loaded model; yields the time on the monotonic clock when the caller's patience ends."""
        deadline = time.monotonic() + timeout_s
        if not self._lock.acquire(timeout=max(timeout_s, 0.0)):
            raise self._late()
        try:
            with self._lane.held():
                if self._runtime is None:
                    with self._lane.discovering():
                        self._runtime = _load(self._model, self._window, self._threads)
                    # Setting no adapters is the loop's work. A server that goes before its loop has begun waits for it for ever.
                    self._ask("/lora-adapters", [], time.monotonic() + _PATIENCE_S)
                yield deadline
        finally:
            self._lock.release()

    def _ask(self, path: str, request: Mapping[str, object] | Sequence[object], deadline: float) -> dict[str, Any]:
        assert self._runtime, "the caller holds the loaded model; this is a bug"
        # A lone surrogate goes as a question mark: JSON has none.
        body = json.dumps(request, ensure_ascii=False).encode("utf-8", "replace")
        try:
            return self._checked(_exchange(self._runtime.address, path, body, deadline - time.monotonic()))
        except TimeoutError as error:
            raise self._late() from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ModelError(
                f"model {self._model.path} gave no answer: {type(error).__name__}: {error}", code="model_failed"
            ) from error

    def _checked(self, reply: object) -> dict[str, Any]:
        """The reply, when it is none of the errors that llama.cpp sends as a value."""
        if not isinstance(reply, dict):
            raise _unknown_form(type(reply).__name__)
        error = reply.get("error")
        if error is None:
            return reply
        if isinstance(error, dict) and error.get("type") == "exceed_context_size_error":
            raise ModelError(
                f"the prompt has {error.get('n_prompt_tokens')} tokens; model {self._model.path} reads at most {self._window}: "
                "give it less text, or a larger window",
                code="too_long",
            )
        said = error.get("message") if isinstance(error, dict) else error
        raise ModelError(f"model {self._model.path} refused the prompt: {said}", code="model_failed")

    def _late(self) -> ModelError:
        return ModelError(
            f"model {self._model.path} did not answer in time; allow more time, a shorter answer or less text", code="timeout"
        )


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, address: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._address = address

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._address)


def _exchange(address: str, path: str, body: bytes, timeout_s: float) -> object:
    """Ask llama.cpp, which answers in one go: so one wait is all the time there is. Hanging up makes it stop within a second."""
    if timeout_s <= 0:
        raise TimeoutError
    deadline = time.monotonic() + timeout_s
    with closing(_Connection(address, timeout_s)) as connection:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        wait_to_read(connection.sock, deadline)
        return json.loads(connection.getresponse().read())


def _messages(prompt: Prompt) -> dict[str, object]:
    return {"messages": [{"role": message.role, "content": message.content} for message in prompt.messages]}


def _completion(reply: Mapping[str, Any]) -> Completion:
    try:
        choice, usage = reply["choices"][0], reply["usage"]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        endings: dict[str, Ending] = {"stop": "stop", "length": "length"}
        return Completion(
            str(text or ""),
            int(usage["prompt_tokens"]),
            int(usage["completion_tokens"]),
            int(usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)),
            endings[choice["finish_reason"]],
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _unknown_form(f"{type(error).__name__}: {error}") from error


def _unknown_form(found: str) -> ModelError:
    return ModelError(f"llama.cpp gave an answer of an unknown form, {found}; install the xllamacpp of the lock", code="bad_answer")


def _copy_grammar(source: str) -> str:
    # The space and the newline belong to it: without them the F1 of copied answers halves (facts: slm).
    words = json.dumps({"substring_words": source}, ensure_ascii=False)
    return f'%llguidance {{}}\nstart: " " SUB "\\n"\nSUB: %regex {words}\n'


def checked_copy(completion: Completion, source: str) -> Completion:
    """Refuse an answer that was to be copied and is not: llama.cpp ignores a grammar that it cannot read, without a word.

    Args:
        completion: An answer to a prompt with ``copy_from``.
        source: That text.

    Returns:
        The completion; when the cap cut it within a word, without that word.

    Raises:
        ModelError: ``not_copied`` if the answer, without space around it, is not a run of words of the source.
    """
    if not _is_run_of_words(completion.text, source) and completion.ending == "length":
        completion = replace(completion, text=re.sub(r"\w+$", "", completion.text))
    if not _is_run_of_words(completion.text, source):
        raise ModelError(
            f"the model was to copy its answer and wrote {completion.text[:80]!r}, which is not in the text; shorten the text",
            code="not_copied",
        )
    return completion


def _is_run_of_words(text: str, source: str) -> bool:
    """Whether a text is empty or stands in the source from one edge of a word, a mark or a space to another."""
    part, whole = (
        "\0".join(["", *re.findall(r"\w+|\W", value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")), ""])
        for value in (text.strip(), source)
    )
    return part in whole


def _load(model: GgufModel, window: int, threads: int) -> _Runtime:
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingExtraError("a language model in this process", "local")
    check_memory(model, window)
    if not _openmp_sleeps() and threads > 1:
        raise ConfigError(
            f"threads is {threads}, but OpenMP was loaded before and its idle threads would spin; set threads to 1, or start with "
            f"{_WAIT_POLICY}=PASSIVE in the environment",
            code="openmp_spins",
        )
    try:
        import xllamacpp
    except ImportError as error:
        raise _unloadable(error) from error

    folder = tempfile.TemporaryDirectory(prefix="ragwatt-")  # mode 0700
    address = str(Path(folder.name) / "model.sock")
    params = xllamacpp.CommonParams()
    params.model.path = str(model.path)
    params.n_ctx = window
    params.n_parallel = 1
    params.n_batch = params.n_ubatch = _STEP_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = 0
    params.fit_params = False
    params.verbosity = _QUIET
    params.hostnames = [address]
    params.ui = params.endpoint_slots = params.cors_credentials = False
    params.cors_origins = ""
    try:
        return _Runtime(xllamacpp.Server(params), folder, address)
    except RuntimeError as error:
        folder.cleanup()
        raise ModelError(
            f"model {model.path} cannot be loaded: it is gone, cut off or damaged, or newer than xllamacpp {xllamacpp.__version__}; "
            "get the file again or upgrade xllamacpp",
            code="model_damaged",
        ) from error


def _unloadable(error: ImportError) -> ModelError:
    """Of a runtime that is installed and cannot be loaded; its wheel takes OpenMP from the system, and a slim Debian has none."""
    advice = "install the system package libgomp1 (on Debian and Ubuntu; libgomp elsewhere)"
    if "libgomp" not in str(error):
        advice = "install the extra again: pip install --force-reinstall 'ragwatt[local]'"
    return ModelError(f"llama.cpp is installed, but cannot be loaded ({error}); {advice}", code="runtime_unloadable")


@cache
def _openmp_sleeps() -> bool:
    """Make idle threads of OpenMP sleep instead of spin, which libgomp decides once, when it is loaded: the first answer stays true.

    libgomp reads the variables of C, which `os.putenv` sets. Libraries that bring a libgomp of their own, such as faiss, share neither
    its threads nor its policy.
    """
    if openmp_wait_policy().lower() == "passive":
        return True
    if _openmp_is_loaded():
        return False
    os.putenv(_WAIT_POLICY, "PASSIVE")
    return True


def _openmp_is_loaded() -> bool:
    with suppress(OSError):  # only Linux has the file
        return "/libgomp.so.1" in Path("/proc/self/maps").read_text(errors="replace")
    return False
