"""Tokenizer and graph of a model folder, run in this process: the only file that imports onnxruntime.

Choices, measured (docs/decisions):
- Batch 1, always: dynamic quantisation takes one activation scale per tensor, so in a batch a text's vector would
  depend on its neighbours (cosine down to 0.988). On texts of 184 tokens a batch saves nothing (10.7 ms a text at 1 and at 4, 12.4 at
  16), on questions of 14 tokens a fifth (3.2 ms at 1, 2.5 at 4 and at 16; `rag.embed.tuning`).
- One intra-op thread unless asked otherwise, and no spinning ever: two spinning threads double the CPU time of a text. Callers
  parallelise over texts with threads; onnxruntime releases the interpreter lock.
- With more, the session owns a pool, which one caller uses at a time: only so is it known whose CPU time the pool spends.
- Truncation is ours, not the tokenizer file's: bundled files say 128 where the model was trained with 256.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rag.clocks import Lane
from rag.errors import ModelError
from rag.models.wire import has_external_data
from rag.types import Vector

if TYPE_CHECKING:
    from tokenizers import Encoding

Graph: TypeAlias = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
"""Token ids and attention mask, both int64 of shape (n_texts, n_tokens), to the first output of the model."""

_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
# onnxruntime severity "error": warnings about shapes and devices are noise on a command line.
_LOG_SEVERITY_ERROR = 3


class ModelTokenizer:
    """A tokenizer.json without padding and truncation; safe to share between threads.

    Args:
        path: The file.

    Raises:
        ModelError: If it cannot be read or parsed.
    """

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception for a missing and for a malformed file
            raise ModelError(f"tokenizer {path} cannot be loaded: {error}; reinstall or add the model again") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._n_special = int(self._tokenizer.num_special_tokens_to_add(is_pair=False))

    @cached_property
    def adds_up(self) -> bool:
        """Whether the tokens of a text are those of its parts, cut at blanks, line ends or CJK full stops; proven for BERT's parts only.

        It cuts there before it looks at words (`tests/property/test_chunk.py`), unless an added token spans such a place.
        """
        parts = (self._tokenizer.normalizer, self._tokenizer.pre_tokenizer, self._tokenizer.model)
        if [type(part).__name__ for part in parts] != ["BertNormalizer", "BertPreTokenizer", "WordPiece"]:
            return False
        added = self._tokenizer.get_added_tokens_decoder().values()
        return not any(t.lstrip or t.rstrip or t.single_word or len(t.content.split()) != 1 for t in added)

    def count(self, text: str) -> int:
        """Tokens of a text, special tokens included, without limit."""
        return len(self._encode(text)) + self._n_special

    def spans(self, text: str) -> Sequence[tuple[int, int]]:
        """Code point spans of the tokens, without special tokens and without limit.

        Args:
            text: Any text.

        Returns:
            Pairs of first character and one past the last, starts ascending. Characters that the tokenizer drops lie in
            no span; where it splits one character into several tokens, spans repeat.
        """
        offsets: list[tuple[int, int]] = self._encode(text).offsets
        return offsets

    def ids(self, text: str, max_tokens: int) -> list[int]:
        """Token ids as the model reads them.

        Args:
            text: Any text.
            max_tokens: Upper limit, special tokens included; what lies behind is dropped.

        Returns:
            At least one id: a tokenizer without special tokens has none for an empty text, and id 0 then stands for it.
        """
        encoding = self._encode(text)
        if len(encoding) > max_tokens - self._n_special:
            encoding.truncate(max_tokens - self._n_special)
        ids: list[int] = self._tokenizer.post_process(encoding).ids
        return ids or [0]

    def _encode(self, text: str) -> Encoding:
        # A lone surrogate cannot be encoded; "replace" puts one "?" for one, so offsets still fit the text.
        storable = text.encode("utf-8", "replace").decode("utf-8")
        return self._tokenizer.encode(storable, add_special_tokens=False)


class ModelSession:
    """The graph of a model on the CPU, one text a run; safe to share between threads.

    The graph is loaded at the first run.

    Args:
        path: ``model.onnx``, with weights inside.
        dim: Length of the vectors that the card promises.
        threads: Threads that work on one text, at least 1; with more than one, callers wait for each other.
    """

    def __init__(self, path: Path, dim: int, threads: int = 1) -> None:
        self._path = path
        self._dim = dim
        self._threads = threads
        self._lock = threading.Lock()
        self._graph: Graph | None = None
        self._lane = Lane() if threads > 1 else None

    @property
    def lane(self) -> Lane | None:
        """Threads that work besides the caller's; None when there are none."""
        return self._lane

    def run(self, ids: Sequence[int]) -> Vector:
        """Embed one tokenised text.

        Args:
            ids: Token ids, at least one, special tokens included.

        Returns:
            float32 of shape (dim,), of unit length.

        Raises:
            ModelError: If the graph cannot be loaded or run, or gives something else than a unit vector of ``dim``.
        """
        graph = self._graph or self._load()
        tokens = np.array([ids], dtype=np.int64)
        try:
            with self._lane.held() if self._lane else nullcontext():
                output = graph(tokens, np.ones_like(tokens))
        except Exception as error:  # onnxruntime's errors share no base class but Exception
            raise ModelError(
                f"model {self._path} failed on a text of {len(ids)} tokens: {error}; run: rag models verify"
            ) from error
        vector: Vector = np.asarray(output, dtype=np.float32).reshape(-1)
        length = float(np.linalg.norm(vector)) if vector.shape == (self._dim,) else 0.0
        # A NaN fails the comparison too. The graph normalises in fp32, so 1e-3 is generous.
        if not abs(length - 1.0) < 1e-3:
            raise ModelError(
                f"model {self._path} gave an output of shape {np.shape(output)} and length {length:.4g}, expected a unit "
                f"vector of {self._dim} components; run: rag models verify"
            )
        return vector

    def _load(self) -> Graph:
        with self._lock:
            if self._graph is None:
                with self._lane.discovering() if self._lane else nullcontext():
                    self._graph = open_graph(self._path, self._threads)
            return self._graph


def silence_telemetry() -> None:
    """Keep onnxruntime from writing a device id and events into the home folder and from sending them; call it before the import.

    Its wheels for Linux have telemetry since 1.29; what its interface offers against it acts only when both have begun.
    """
    os.putenv("ORT_DISABLE_TELEMETRY", "1")  # read by its C++ code


def open_graph(path: Path, threads: int = 1) -> Graph:
    """Load a graph for the CPU; idle threads of its pool do not spin.

    Args:
        path: ``model.onnx``, with weights inside.
        threads: Threads that work on one run, at least 1; all but the caller's are started here.

    Returns:
        The graph as a function; what a run raises is onnxruntime's.

    Raises:
        ModelError: If the file cannot be loaded, keeps weights elsewhere, or wants other inputs than we have.
    """
    silence_telemetry()
    import onnxruntime

    # A tensor stored outside names a file by a path of the model's choosing; one file with its hash on the card is all we load. The
    # shipped graphs are our own, and looking for it takes 35 ms of a cold start on a slow core.
    if Path(__file__).parent not in path.parents and has_external_data(path):
        raise ModelError(
            f"model {path} keeps weights in another file; only a self-contained one is loaded: rag models add makes it"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_SEVERITY_ERROR
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class but Exception
        raise ModelError(f"model {path} cannot be loaded: {error}; reinstall or add the model again") from error
    inputs = frozenset(value.name for value in session.get_inputs())
    if not {"input_ids"} <= inputs <= _INPUTS:
        raise ModelError(
            f"model {path} has the inputs {', '.join(sorted(inputs))}; "
            f"allowed: {', '.join(sorted(_INPUTS))}; export it with: rag models add"
        )

    def graph(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        output: NDArray[np.float32] = session.run(None, {name: feeds[name] for name in inputs})[0]
        return output

    return graph
