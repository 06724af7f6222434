from __future__ import annotations

import os
import struct
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import ModelError
from rag.models.gguf_header import GgufHeader, read_header

CODES = {"not_gguf", "gguf_truncated", "gguf_version", "not_language_model"}
U32, STRING, ARRAY, U64 = 4, 8, 9, 10
F32, Q4_1 = 0, 3


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def pair(key: str, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def said(key: str, text: str | bytes) -> bytes:
    return pair(key, STRING, string(text))


def number(key: str, value: int) -> bytes:
    return pair(key, U32, struct.pack("<I", value))


def tensor(name: str, dims: Sequence[int], kind: int, offset: int) -> bytes:
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


ARCHITECTURE = said("general.architecture", "llama")
PAIRS = [
    number("llama.context_length", 2048),
    number("llama.block_count", 3),
    number("llama.embedding_length", 216),
    number("llama.attention.head_count", 9),
    number("llama.attention.head_count_kv", 3),
    number("bert.context_length", 512),
    ARCHITECTURE,
    said("general.type", "model"),
    said("general.name", "Small\n\x1b[31m one"),
    said("general.license", "apache-2.0"),
    said("general.size_label", "138"),
    pair("llama.rope.freq_base", 6, struct.pack("<f", 1e5)),
    pair("tokenizer.ggml.add_bos_token", 7, b"\1"),
    pair("tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", STRING, 3) + string("a") + string("") + string("ccc")),
    pair("tokenizer.ggml.token_type", ARRAY, struct.pack("<IQ3i", 5, 3, 1, 1, -1)),
    said("tokenizer.chat_template", "{% for m in messages %}" * 60),
]
# 128 weights in 4 blocks of 20 bytes, then, aligned to 32 bytes, 10 weights of 4 bytes.
TENSORS = [tensor("token_embd.weight", (64, 2), Q4_1, 0), tensor("output_norm.weight", (10,), F32, 96)]
DATA = bytes(range(136))
HEADER = GgufHeader("Small  [31m one", "llama", 138, 2048, 432, "Q4_1", "apache-2.0", "138")


def gguf(pairs: Sequence[bytes] = PAIRS, tensors: Sequence[bytes] = TENSORS, data: bytes = DATA, version: int = 3) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join([*pairs, *tensors])
    return head + bytes(-len(head) % 32) + data


def without(key: str, *more: bytes) -> list[bytes]:
    return [item for item in PAIRS if not item.startswith(string(key))] + list(more)


# As files have it whose layers differ; it is passed over.
LIST_OF_HEADS = pair("llama.attention.head_count_kv", ARRAY, struct.pack("<IQ3I", U32, 3, 1, 2, 3))


def header_of(folder: Path, content: bytes) -> GgufHeader:
    path = folder / "a.gguf"
    path.write_bytes(content)
    return read_header(path)


def refused(folder: Path, content: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        header_of(folder, content)
    assert "\n" not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("version", [2, 3])
def test_header_says_who_the_model_is(tmp_path: Path, version: int) -> None:
    assert header_of(tmp_path, gguf(version=version)) == HEADER


def test_header_of_a_real_model_is_exact(gguf_path: Path) -> None:
    header = read_header(gguf_path)
    assert (header.architecture, header.n_parameters, header.context_length) == ("llama", 134_515_008, 8192)
    assert (header.quantisation, header.licence, header.size_label) == ("Q4_1", "apache-2.0", "135M")
    assert header.n_kv_values == 30 * 3 * (64 + 64)


def test_stated_number_of_parameters_comes_before_the_sum(tmp_path: Path) -> None:
    stated = pair("general.parameter_count", U64, struct.pack("<Q", 10**12))
    assert header_of(tmp_path, gguf([*PAIRS, stated])).n_parameters == 10**12


def test_what_a_file_does_not_tell_is_left_open(tmp_path: Path) -> None:
    header = header_of(tmp_path, gguf([ARCHITECTURE]))
    assert header == GgufHeader("", "llama", 138, 0, 0, "Q4_1", "unknown", "")


@pytest.mark.parametrize(
    "value",
    [
        pair("llama.context_length", 6, struct.pack("<f", 2048.0)),
        pair("llama.context_length", 5, struct.pack("<i", -1)),
        pair("llama.context_length", ARRAY, struct.pack("<IQI", U32, 1, 2048)),
        said("llama.context_length", "2048"),
    ],
    ids=["float", "negative", "array", "text"],
)
def test_context_length_that_is_no_count_is_not_told(tmp_path: Path, value: bytes) -> None:
    assert header_of(tmp_path, gguf(without("llama.context_length", value))).context_length == 0


# Three layers; 216 is shared by nine heads, three of which are kept.
@pytest.mark.parametrize(
    ("pairs", "n_kv_values"),
    [
        (PAIRS, 3 * 3 * (24 + 24)),
        (without("llama.attention.head_count_kv"), 3 * 9 * (24 + 24)),
        (without("llama.attention.head_count_kv", LIST_OF_HEADS), 3 * 9 * (24 + 24)),
        ([*PAIRS, number("llama.attention.key_length", 64)], 3 * 3 * (64 + 24)),
        ([*PAIRS, number("llama.attention.key_length", 64), number("llama.attention.value_length", 32)], 3 * 3 * (64 + 32)),
        (without("llama.block_count"), 0),
        (without("llama.embedding_length"), 0),
        ([*PAIRS, number("bert.attention.key_length", 64)], 3 * 3 * (24 + 24)),
    ],
    ids=["grouped heads", "all heads", "heads by layer", "key", "key and value", "no layers", "no width", "other architecture"],
)
def test_keys_and_values_of_a_token_are_those_of_all_layers(tmp_path: Path, pairs: list[bytes], n_kv_values: int) -> None:
    assert header_of(tmp_path, gguf(pairs)).n_kv_values == n_kv_values


def test_tensor_type_of_the_future_is_named_by_its_number(tmp_path: Path) -> None:
    content = gguf(tensors=[tensor("w", (64, 2), 99, 0)], data=bytes(16))
    assert header_of(tmp_path, content).quantisation == "type 99"
    assert refused(tmp_path, content[:-1]) == "gguf_truncated"


def test_alignment_of_the_file_is_heeded(tmp_path: Path) -> None:
    content = gguf([ARCHITECTURE, number("general.alignment", 4096)], data=b"")
    end = 4096 + len(DATA)
    assert header_of(tmp_path, content.ljust(end, b"\0")).n_parameters == 138
    assert refused(tmp_path, content.ljust(end - 1, b"\0")) == "gguf_truncated"


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    content = gguf()
    assert {refused(tmp_path, content[:n]) for n in range(len(content))} == {"gguf_truncated"}


@settings(max_examples=500)
@given(data=st.data())
def test_changed_bytes_give_a_header_or_a_model_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(gguf())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[at] = data.draw(st.integers(0, 255))
    try:
        header = header_of(tmp_path_factory.getbasetemp(), bytes(content))
    except ModelError as error:
        assert error.code in CODES  # noqa: PT017 - either outcome is right
    else:
        assert header.architecture
        # No weight is smaller than a bit, and there are two tensors.
        assert 0 < header.n_parameters <= 2 * 8 * len(content)
        assert "".join((header.name, header.architecture, header.licence)).isprintable()


@settings(max_examples=300)
@given(content=st.binary(max_size=300), counts=st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_noise_behind_the_magic_is_a_model_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, counts: tuple[int, int]
) -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, *counts)
    assert refused(tmp_path_factory.getbasetemp(), head + content) in CODES


def test_changed_weights_leave_the_header_as_it_is(tmp_path: Path) -> None:
    assert header_of(tmp_path, gguf(data=bytes(len(DATA)))) == HEADER


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "gguf_truncated"),
        (b"PK\3\4 no model", "not_gguf"),
        (gguf(version=1), "gguf_version"),
        (gguf(version=4), "gguf_version"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(100), "gguf_version"),
        (gguf(without("general.architecture")), "not_gguf"),
        (gguf([*PAIRS, pair("x", 13, b"")]), "not_gguf"),
        (gguf([*PAIRS, pair("x", ARRAY, struct.pack("<IQ", ARRAY, 1) + struct.pack("<IQ", U32, 0))]), "not_gguf"),
        (gguf(tensors=[tensor("w", (1, 1, 1, 1, 1), F32, 0)]), "not_gguf"),
        (gguf(tensors=[]), "not_language_model"),
        (gguf(without("general.type", said("general.type", "adapter"))), "not_language_model"),
        (gguf([*PAIRS, pair("split.count", 2, struct.pack("<H", 3))]), "not_language_model"),
    ],
    ids=[
        *("empty", "other magic", "version 1", "version 4", "big endian", "no architecture", "kind of value", "nested array"),
        *("dimensions", "no tensors", "adapter", "part of several"),
    ],
)
def test_what_is_no_whole_model_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    assert refused(tmp_path, content) == code


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"GGUF" + struct.pack("<IQQ", 3, 2**64 - 1, 0), "not_gguf"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**64 - 1), "not_gguf"),
        (gguf([struct.pack("<Q", 2**63)]), "gguf_truncated"),
        (gguf([pair("x", ARRAY, struct.pack("<IQ", U64, 2**62))]), "gguf_truncated"),
        (gguf([pair("x", ARRAY, struct.pack("<IQ", STRING, 2**62))]), "not_gguf"),
        (gguf(tensors=[tensor("w", (2**62, 2**62, 2**62, 2**62), Q4_1, 0)]), "gguf_truncated"),
        (gguf(tensors=[tensor("w", (1,), F32, 2**64 - 1)]), "gguf_truncated"),
        # The whole rest of the file as one key: passed over, without architecture in the end.
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 99_999_000), "not_gguf"),
    ],
    ids=["tensors", "keys", "string", "array", "array of strings", "weights", "offset", "long key"],
)
def test_absurd_number_costs_no_memory(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    os.truncate(path, 100_000_000)  # a hole of zeros, so that there is something to be read
    tracemalloc.start()
    try:
        with pytest.raises(ModelError) as caught:
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("name", "code"), [("none.gguf", "model_missing"), (".", "model_missing"), ("x" * 5000 + ".gguf", "model_unreadable")]
)
def test_path_that_is_no_file_is_a_model_error(tmp_path: Path, name: str, code: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_header(tmp_path / name)
    assert caught.value.code == code
