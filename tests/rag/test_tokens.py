from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from rag.errors import InputError
from rag.tokens import _VOCABULARIES, SHIPPED_NAME, TokenCounter, open_counter

# Text with its counts by cl100k_base, o200k_base and SmolLM2. Regenerate: PYTHONPATH=. python bench/tokens.py --data DATA
# --tiktoken-cache FOLDER --tokenizer SmolLM2=tokenizer.json --golden tests/golden/tokens_hostile.json
GOLDEN = Path(__file__).parents[1] / "golden" / "tokens_hostile.json"
PROSE = "The Panthers defense gave up just 308 points, ranking sixth in the league, while Kuechly led it with 118 tackles."
# The alphabet of Hypothesis has everything but lone surrogates; those are added here.
hostile = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=60)


@pytest.fixture(scope="module")
def estimate() -> TokenCounter:
    return open_counter("")


@pytest.fixture(scope="module")
def shipped() -> TokenCounter:
    return open_counter(SHIPPED_NAME)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture
def real_vocabularies() -> str:
    folder = os.environ.get("RAGWATT_TEST_TIKTOKEN", "")
    if not folder:
        pytest.skip("set RAGWATT_TEST_TIKTOKEN to a folder with tiktoken's vocabulary files")
    return folder


def golden_rows() -> list[tuple[str, int]]:
    rows = json.loads(GOLDEN.read_text(encoding="ascii"))[1:]
    return [(row[0], max(row[1:])) for row in rows]


def write_tokenizer(path: Path) -> Path:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "one": 1, "two": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(path))
    return path


def test_empty_text_has_no_tokens(estimate: TokenCounter, shipped: TokenCounter) -> None:
    assert (estimate.count(""), shipped.count("")) == (0, 0)


def test_tokenizer_file_counts_as_tokenizers_does_without_its_truncation_and_padding(tmp_path: Path) -> None:
    counter = open_counter(str(write_tokenizer(tmp_path / "tokenizer.json")))
    assert counter.exact
    assert [counter.count(text) for text in ("one", "one two three, two")] == [1, 5]


def test_tokenizer_file_is_named_by_its_path(tmp_path: Path) -> None:
    path = write_tokenizer(tmp_path / "tokenizer.json")
    assert open_counter(str(path)).name == str(path)


def test_missing_tokenizer_file_is_refused_with_a_way_out() -> None:
    with pytest.raises(InputError, match=r"nowhere/tokenizer\.json cannot be read.*give the path"):
        open_counter("nowhere/tokenizer.json")


@pytest.mark.parametrize("content", [b"{}", b"not json", b"\xff\xfe"])
def test_damaged_tokenizer_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a Hugging Face tokenizer"):
        open_counter(str(path))


def test_shipped_model_counts_exactly_without_special_tokens(shipped: TokenCounter) -> None:
    assert (shipped.name, shipped.exact) == (SHIPPED_NAME, True)
    assert shipped.count("hello world") == 2


def test_shipped_model_counts_beyond_the_length_that_it_reads(shipped: TokenCounter) -> None:
    assert shipped.count("word " * 1000) == 1000


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("", "estimate"),
        ("some-llama", "estimate for some-llama (unknown model)"),
        ("gpt-4o", "estimate for gpt-4o (vocabulary not found)"),
        ("cl100k_base", "estimate for cl100k_base (vocabulary not found)"),
        ("gpt2", "estimate for gpt2 (vocabulary not found)"),
    ],
)
def test_estimate_says_why_it_is_one(model: str, name: str) -> None:
    counter = open_counter(model)
    assert (counter.name, counter.exact) == (name, False)


@pytest.mark.usefixtures("no_network")
def test_vocabulary_that_is_not_in_the_cache_is_not_downloaded(tmp_path: Path) -> None:
    counter = open_counter("gpt-4o", str(tmp_path))
    assert counter.name == "estimate for gpt-4o (vocabulary not found)"
    assert counter.count(PROSE) > 20
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_network")
def test_damaged_vocabulary_file_is_estimated_around_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / _VOCABULARIES["o200k_base"].file_name
    path.write_bytes(b"IQ== 0\n")
    assert open_counter("gpt-4o", str(tmp_path)).name == "estimate for gpt-4o (vocabulary file damaged)"
    assert path.read_bytes() == b"IQ== 0\n"


def test_without_tiktoken_its_models_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    assert open_counter("gpt-4o").name == "estimate for gpt-4o (tiktoken not installed)"


@pytest.mark.parametrize("name", list(_VOCABULARIES))
def test_vocabulary_table_equals_that_of_the_installed_tiktoken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    public = pytest.importorskip("tiktoken_ext.openai_public")
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(
        public,
        "load_tiktoken_bpe",
        lambda url, expected_hash: asked.append((hashlib.sha1(url.encode()).hexdigest(), expected_hash)),
    )
    pattern = public.ENCODING_CONSTRUCTORS[name]()["pat_str"]
    ours = _VOCABULARIES[name]
    assert (asked, pattern) == ([(ours.file_name, ours.sha256)], ours.pattern)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("model", "encoding"), [("gpt-4", "cl100k_base"), ("gpt-4o", "o200k_base"), ("gpt-oss-20b", "o200k_base")])
def test_tiktoken_model_counts_exactly_from_its_cache(model: str, encoding: str, real_vocabularies: str) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    counter = open_counter(model, real_vocabularies)
    assert (counter.name, counter.exact) == (f"{encoding} (tiktoken)", True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", real_vocabularies)
        theirs = tiktoken.get_encoding(encoding)
    for text in (PROSE, "<|endoftext|>", *(text for text, _ in golden_rows())):
        assert counter.count(text) == len(theirs.encode_ordinary(text))


def test_estimate_is_never_below_the_golden_counts_of_three_tokenizers(estimate: TokenCounter) -> None:
    too_low = [(text, true, estimate.count(text)) for text, true in golden_rows() if estimate.count(text) < true]
    assert too_low == []


def test_estimate_of_prose_is_not_wasteful(estimate: TokenCounter) -> None:
    # cl100k_base and o200k_base have 28 tokens, SmolLM2 34: it spells the numbers.
    assert 34 <= estimate.count(PROSE) <= 42


def test_estimate_counts_what_the_shipped_tokenizer_hides(estimate: TokenCounter, shipped: TokenCounter) -> None:
    for hidden in ("\n" * 400, " " * 400, "\x00" * 40, "x" * 400, "中" * 40, "😀" * 40, "1234567890" * 10):
        assert estimate.count(hidden) > shipped.count(hidden)


@given(text=hostile)
@settings(max_examples=200)
def test_estimate_is_at_least_the_count_of_the_shipped_tokenizer(text: str, estimate: TokenCounter, shipped: TokenCounter) -> None:
    assert estimate.count(text) >= shipped.count(text)


@given(left=hostile, right=hostile)
@settings(max_examples=100)
def test_estimate_of_joined_lines_is_at_most_one_above_the_sum_and_not_below_either(
    left: str, right: str, estimate: TokenCounter
) -> None:
    parts = (estimate.count(left), estimate.count(right))
    base = 0 if left or right else 2  # what any text costs that is not empty
    assert max(parts) <= estimate.count(f"{left}\n{right}") <= sum(parts) + 1 + base


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_lone_surrogates_are_counted(text: str, estimate: TokenCounter, shipped: TokenCounter, tmp_path: Path) -> None:
    assert estimate.count(text) >= 1
    assert shipped.count(text) >= 0
    assert open_counter(str(write_tokenizer(tmp_path / "tokenizer.json"))).count(text) >= 1
