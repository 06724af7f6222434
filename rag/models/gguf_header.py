"""The header of a GGUF file: what it says of its language model, and whether the weights that it announces are all there.

The file may come from anywhere: no number in it makes us read or keep more than the file has.

References:
    The GGUF file format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rag.errors import ModelError

# Large models have about 100 keys, 2,000 tensors and 700,000 strings (vocabulary and merges). A crafted file costs seconds and 40 MB.
_MAX_ENTRIES = 16_384
_MAX_STRINGS = 4_194_304
_MAX_TEXT_BYTES = 1_024  # what is longer, such as a chat template, is no key or name that we want
_MAX_DIMS = 4  # the format's
_STRING, _ARRAY = 8, 9
# Bytes of the other kinds of values. Whole numbers are 0, 2, 4, 10 and, with a sign, 1, 3, 5, 11; the rest are never wanted.
_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_WHOLE = {0, 1, 2, 3, 4, 5, 10, 11}
# Tensor types that files hold: number, name, weights and bytes of a block.
_TYPE_ROWS = (
    "0 F32 1 4, 1 F16 1 2, 2 Q4_0 32 18, 3 Q4_1 32 20, 6 Q5_0 32 22, 7 Q5_1 32 24, 8 Q8_0 32 34, 10 Q2_K 256 84, 11 Q3_K 256 110, "
    "12 Q4_K 256 144, 13 Q5_K 256 176, 14 Q6_K 256 210, 16 IQ2_XXS 256 66, 17 IQ2_XS 256 74, 18 IQ3_XXS 256 98, 19 IQ1_S 256 50, "
    "20 IQ4_NL 32 18, 21 IQ3_S 256 110, 22 IQ2_S 256 82, 23 IQ4_XS 256 136, 29 IQ1_M 256 56, 30 BF16 1 2, 39 MXFP4 32 17"
)
_TYPES = {int(kind): (name, int(n), int(size)) for kind, name, n, size in (row.split() for row in _TYPE_ROWS.split(", "))}
# What follows the architecture, which may be told later, in the keys of its numbers.
_NUMBERS = (
    ".context_length",
    ".block_count",
    ".embedding_length",
    ".attention.head_count",
    ".attention.head_count_kv",
    ".attention.key_length",
    ".attention.value_length",
)
_GENERAL = "alignment architecture license name parameter_count size_label type".split()
_WANTED = {"split.count", *(f"general.{key}" for key in _GENERAL)}
_Values = dict[str, int | str]


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says of its language model.

    Attributes:
        name: For people, may be empty.
        architecture: Family that a runtime must know, such as ``llama``.
        n_parameters: As the file says, else the weights of all its tensors.
        context_length: Tokens that it was trained to read; 0 when not told.
        n_kv_values: Numbers that a runtime keeps of every token in its window, the keys and values of all layers: an upper estimate
            where layers differ, 0 when not told.
        quantisation: Tensor type of most weights, such as ``Q4_1``.
        licence: SPDX expression, or ``unknown``.
        size_label: Size class such as ``135M``, may be empty.
    """

    name: str
    architecture: str
    n_parameters: int
    context_length: int
    n_kv_values: int
    quantisation: str
    licence: str
    size_label: str


def read_header(path: Path) -> GgufHeader:
    """Read the header of a GGUF file and check that the weights behind it are all there; they are not read.

    Args:
        path: The file, little endian.

    Returns:
        What it says.

    Raises:
        ModelError: ``model_missing`` if there is no such file, ``model_unreadable`` if it cannot be read, ``not_gguf`` if it is
            something else or damaged, ``gguf_version`` if it is of another version or byte order, ``gguf_truncated`` if it ends
            early, ``not_language_model`` if it holds no whole model.
    """
    try:
        if not path.is_file():
            raise ModelError(f"language model {path} is missing or no file; give the path of a GGUF file", code="model_missing")
        with path.open("rb") as file:
            return _read(_Reader(file, path))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}; give another file", code="model_unreadable") from error


class _Reader:
    """Reads a file forward, never beyond its end."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._size = os.fstat(file.fileno()).st_size
        self._n_strings = self.at = 0

    def take(self, n_bytes: int) -> bytes:
        self.require(self.at + n_bytes)
        self.at += n_bytes
        data = self._file.read(n_bytes)
        if len(data) < n_bytes:  # it shrank meanwhile
            raise self._truncated(self.at)
        return data

    def skip(self, n_bytes: int) -> None:
        self.require(self.at + n_bytes)
        self.at = self._file.seek(n_bytes, os.SEEK_CUR)

    def whole(self, n_bytes: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(n_bytes), "little", signed=signed)

    def text(self) -> str:
        """A string on one line; empty when it is too long to be a key or a name."""
        n_bytes = self.whole(8)
        if n_bytes > _MAX_TEXT_BYTES:
            self.skip(n_bytes)
            return ""
        return one_line(self.take(n_bytes))

    def skip_strings(self, n: int) -> None:
        self._n_strings += n
        if self._n_strings > _MAX_STRINGS:
            raise self.refused("is damaged: too many strings in its header", f"{_MAX_STRINGS:,}")
        for _ in range(n):
            self.skip(self.whole(8))

    def require(self, n_bytes: int) -> None:
        if n_bytes > self._size:
            raise self._truncated(n_bytes)

    def refused(self, found: str, allowed: str, code: str = "not_gguf") -> ModelError:
        return ModelError(f"language model {self._path} {found}; allowed: {allowed}; give another file or get it again", code=code)

    def _truncated(self, n_bytes: int) -> ModelError:
        return self.refused(f"is cut off: it has {self._size:,} bytes", f"the {n_bytes:,} that it needs", "gguf_truncated")


def _read(reader: _Reader) -> GgufHeader:
    if (magic := reader.take(4)) != b"GGUF":
        raise reader.refused(f"is no GGUF file: it begins with {magic!r}", "b'GGUF'")
    version = reader.whole(4)
    if version not in (2, 3):
        raise reader.refused(f"is GGUF of version {version}", "2 and 3, little endian", "gguf_version")
    n_tensors, n_pairs = reader.whole(8), reader.whole(8)
    if max(n_tensors, n_pairs) > _MAX_ENTRIES:
        raise reader.refused(f"is damaged: {n_tensors:,} tensors and {n_pairs:,} keys", f"{_MAX_ENTRIES:,} of each")
    values = _metadata(reader, n_pairs)
    if not (architecture := _text(values, "general.architecture")):
        raise reader.refused("is damaged: it names no architecture", "one")
    n_by_type = _tensors(reader, n_tensors, _whole(values, "general.alignment", 32))  # 32 is the format's default
    kind, n_parts, n_weights = _text(values, "general.type"), _whole(values, "split.count"), n_by_type.total()
    if kind not in ("", "model") or n_parts > 1 or not n_weights:
        raise reader.refused(
            f"is no whole language model: type {kind!r}, {n_parts} parts, {n_weights:,} weights",
            "type 'model', in one file (llama-gguf-split --merge joins parts)",
            "not_language_model",
        )
    return GgufHeader(
        name=_text(values, "general.name"),
        architecture=architecture,
        n_parameters=_whole(values, "general.parameter_count") or n_weights,
        context_length=_whole(values, f"{architecture}.context_length"),
        n_kv_values=_n_kv_values(values, architecture),
        quantisation=n_by_type.most_common(1)[0][0],
        licence=_text(values, "general.license") or "unknown",
        size_label=_text(values, "general.size_label"),
    )


def _metadata(reader: _Reader, n_pairs: int) -> _Values:
    """The wanted pairs; all others are passed over."""
    values: _Values = {}
    for _ in range(n_pairs):
        key, kind, n = reader.text(), reader.whole(4), 1
        is_array = kind == _ARRAY
        if is_array:
            kind, n = reader.whole(4), reader.whole(8)
        if kind != _STRING and kind not in _BYTES:  # arrays in arrays too: llama.cpp refuses them
            raise reader.refused(f"is damaged: a value of kind {kind}", "the kinds of the GGUF specification, arrays not nested")
        if not is_array and (key in _WANTED or key.endswith(_NUMBERS)) and kind in _WHOLE | {_STRING}:
            values[key] = reader.text() if kind == _STRING else reader.whole(_BYTES[kind], signed=kind % 2 == 1)
        elif kind == _STRING:
            reader.skip_strings(n)
        else:
            reader.skip(n * _BYTES[kind])
    return values


def _tensors(reader: _Reader, n_tensors: int, alignment: int) -> Counter[str]:
    """Weights by tensor type, after a check that the data of every tensor lies in the file."""
    n_by_type, end = Counter[str](), 0
    for _ in range(n_tensors):
        reader.skip_strings(1)
        n_dims = reader.whole(4)
        if n_dims > _MAX_DIMS:
            raise reader.refused(f"is damaged: a tensor of {n_dims} dimensions", f"at most {_MAX_DIMS}")
        n = math.prod(reader.whole(8) for _ in range(n_dims))
        kind, offset = reader.whole(4), reader.whole(8)
        # Of a type that is not known here: none stores a weight in less than a bit.
        name, n_block, block_bytes = _TYPES.get(kind, (f"type {kind}", 8, 1))
        n_by_type[name] += n
        end = max(end, offset + -(-n // n_block) * block_bytes)
    reader.require(reader.at + -reader.at % max(alignment, 1) + end)
    return n_by_type


def _n_kv_values(values: _Values, architecture: str) -> int:
    """Layers, times heads that are kept, times the widths of a key and a value; see `GgufHeader.n_kv_values`."""
    n_heads = _whole(values, f"{architecture}.attention.head_count")
    n_kept = _whole(values, f"{architecture}.attention.head_count_kv", n_heads)
    width = _whole(values, f"{architecture}.embedding_length") // max(n_heads, 1)
    widths = (_whole(values, f"{architecture}.attention.{part}_length", width) for part in ("key", "value"))
    return _whole(values, f"{architecture}.block_count") * n_kept * sum(widths)


def _text(values: _Values, key: str) -> str:
    value = values.get(key)
    return value.strip() if isinstance(value, str) else ""


def _whole(values: _Values, key: str, default: int = 0) -> int:
    value = values.get(key)
    return value if isinstance(value, int) and value >= 0 else default


def one_line(text: bytes) -> str:
    """A text that can be shown on a terminal."""
    return "".join(c if c.isprintable() else " " for c in text.decode("utf-8", "replace"))
