"""Counting tokens for a target model: exactly where its vocabulary lies on this machine, from above where it does not.

Nothing is downloaded. The vocabulary of a tiktoken model is read from tiktoken's own cache folder, checked by its SHA-256
and given to tiktoken as a value, because tiktoken's loader would ask the network for a missing file and read the
environment for the folder.

The estimate is meant to be too high, never too low. It charges the WordPiece pieces of the ASCII letters, and one by one
everything that WordPiece hides: digits, capitals, white space, other scripts. `bench/tokens.py` compares it with real
tokenizers and has the figures.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rag.errors import InputError, ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SHIPPED_NAME = "all-minilm-l6-v2-int8"
_SHIPPED_PATH = Path(__file__).parent / "models" / SHIPPED_NAME / "tokenizer.json"

# What the estimate charges, in tokens: fitted by linear programming under the condition that no passage, sentence or
# question of SciFact and XQuAD, no source file, no hostile string and hardly a list of rare words costs more in
# cl100k_base, o200k_base or SmolLM2, then rounded (`bench/tokens.py`).
#
# A WordPiece piece costs one token, and a whole word more the rarer it is: its number in the vocabulary, which is sorted by
# frequency, over the size; the mean cost of a word in byte-pair tokens rises from 1.07 at the front to 1.94 at the end.
_PER_RARITY = 1.0
# WordPiece folds case, byte-pair tokenizers do not: a capitalised word is rarer, a further capital breaks a word up.
_PER_CAPITAL = 0.3
_PER_FURTHER_CAPITAL = 0.2
# And they know words with a space in front of them better than words without: in identifiers, after a newline or a quote.
_PER_UNSPACED_WORD = 0.7
# Short texts have nothing to average over.
_PER_TEXT = 2.0
# SmolLM2 has one token for 1 to 20, 32 and 64 spaces, but only for up to 4 newlines or tabs; the others have more.
_SPACES_A_TOKEN = 16
_BREAKS_A_TOKEN = 4

# WordPiece answers [UNK], one token, for a word over 100 letters; and camelCase is two words but to a tokenizer that
# folds case.
_WORD_CUT = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z]{64})(?=[A-Za-z])")
_NOT_LETTERS = re.compile(r"[^A-Za-z]+")
_UNSPACED_WORD = re.compile(r"(?<![ A-Za-z])[A-Za-z]|(?<=[a-z])[A-Z]")
_CAPITAL = re.compile(r"(?<![A-Z])[A-Z]")
_FURTHER_CAPITAL = re.compile(r"(?<=[A-Z])[A-Z]")
# A single space is free between printable ASCII characters, because byte-pair tokenizers join it to the word behind it,
# but not to a digit.
_CHARGED_SPACE = re.compile(r"\n+|\t+| {2,}|(?<![!-~]) | (?![!-/:-~])")
# Non-ASCII characters that are one token each in all three vocabularies; every other one costs its UTF-8 bytes, which is
# the most that it can.
_COMMON = (
    "¢£§©«¬®°±²³´µ·¹º»¼½¾¿×‐‑–—‘’‚“”†•…′″₂€™→−─═█●"
    "ÂÃÉßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýāăćčēęğīıłńōœśşšūžə"
    "άέήίαβγδεηθικλμνοπρςστυφχωόВабвгдежзийклмнопрстуфхцчшщыьюяі"
    "\u05d0\u05d1\u05d3\u05d4\u05d5\u05d9\u05dc\u05de\u05e0\u05e8\u05e9\u05ea"
    "\u0627\u0628\u0629\u062a\u062d\u062f\u0631\u0633\u0639\u0641\u0642\u0643\u0644\u0645\u0646\u0647\u0648\u064a\u064e\u064f\u0650\u0651\u0652\u06cc"
    "\u0902\u0915\u0924\u0928\u092e\u0930\u0938\u093e\u093f\u0940\u0941\u0947\u094b\u094d\u0bcd\u0e23\u0e32"
)
# ASCII but letters, space, tab and newline, which have their own charges: digits (SmolLM2 spells numbers), punctuation,
# control characters.
_ONE_EACH = re.compile(rf"[\x00-\x08\x0b-\x1f!-@\[-`{{-\x7f{_COMMON}]")
_ASCII_OR_COMMON = re.compile(rf"[\x00-\x7f{_COMMON}]+")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """A tiktoken vocabulary.

    Attributes:
        file_name: Its name in the cache folder: the SHA-1 of the address it is published at.
        sha256: Of its bytes.
        pattern: Cuts a text into the words that are encoded one by one.
    """

    file_name: str
    sha256: str
    pattern: str


# From tiktoken 0.14, `tiktoken_ext/openai_public.py` (MIT): a test compares them with the installed tiktoken.
_VOCABULARIES = {
    "cl100k_base": _Vocabulary(
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
        r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    ),
    "o200k_base": _Vocabulary(
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}
# The same ranks and pattern, other special tokens, which texts do not contain.
_SAME_VOCABULARY = {"o200k_harmony": "o200k_base"}


class TokenCounter(Protocol):
    """Counts the tokens of a text for one model, without special tokens and without truncation."""

    @property
    def name(self) -> str:
        """How it counts, for people."""

    @property
    def exact(self) -> bool:
        """Whether the count is the target model's own; otherwise it is an upper estimate."""

    def count(self, text: str) -> int:
        """Number of tokens, 0 for the empty text; a lone surrogate counts as U+FFFD."""


@dataclass(frozen=True, slots=True)
class _TokenizerCounter:
    """Exact, by a tokenizer.json."""

    name: str
    tokenizer: Tokenizer
    exact: bool = True

    def count(self, text: str) -> int:
        return _n_pieces(self.tokenizer, _LONE_SURROGATE.sub("\ufffd", text))


@dataclass(frozen=True, slots=True)
class _TiktokenCounter:
    """Exact, by tiktoken; what looks like a special token is text, as in a message to a server."""

    name: str
    encoding: Any
    exact: bool = True

    def count(self, text: str) -> int:
        return len(self.encoding.encode_ordinary(_LONE_SURROGATE.sub("\ufffd", text)))


@dataclass(frozen=True, slots=True)
class _EstimateCounter:
    """From above, by the shipped tokenizer and a charge for what it hides.

    Two texts joined by a newline cost at most one token more than their sum, and at least as much as either.

    It can be too low for a list of nothing but rare words of the WordPiece vocabulary, most of all in capitals.
    """

    name: str
    tokenizer: Tokenizer
    exact: bool = False

    def count(self, text: str) -> int:
        if not text:
            return 0
        tokens = _PER_TEXT + self._word_tokens(_NOT_LETTERS.sub(" ", _WORD_CUT.sub(" ", text)))
        tokens += _PER_UNSPACED_WORD * len(_UNSPACED_WORD.findall(text))
        tokens += _PER_CAPITAL * len(_CAPITAL.findall(text)) + _PER_FURTHER_CAPITAL * len(_FURTHER_CAPITAL.findall(text))
        tokens += len(_ONE_EACH.findall(text)) + sum(map(_n_space_tokens, _CHARGED_SPACE.findall(text)))
        if not text.isascii():
            tokens += len(_ASCII_OR_COMMON.sub("", text).encode("utf-8", "surrogatepass"))
        return math.ceil(tokens)

    def _word_tokens(self, words: str) -> float:
        """One a piece, and the rarity of every word that is a single piece; a word in pieces costs enough by them."""
        encoding = self.tokenizer.encode(words, add_special_tokens=False)
        pieces, ids = encoding.tokens, encoding.ids
        inner = [piece.startswith("##") for piece in pieces] + [False]
        rarity = sum(ids[i] for i in range(len(ids)) if not inner[i] and not inner[i + 1])
        return len(ids) + _PER_RARITY * rarity / self.tokenizer.get_vocab_size()


def open_counter(target_model: str, tiktoken_cache_dir: str = "") -> TokenCounter:
    """Choose how to count for a model.

    Exact for a ``tokenizer.json``, for the shipped model, and for a model or encoding that tiktoken knows when tiktoken is
    installed and the vocabulary file lies in its cache folder. All else is estimated, and the counter's name says why.

    Args:
        target_model: Path of a Hugging Face tokenizer file ending in ``.json``, a model name, a tiktoken encoding, or empty
            for any model.
        tiktoken_cache_dir: The folder that tiktoken calls TIKTOKEN_CACHE_DIR; empty means there is none.

    Returns:
        The counter; opening it reads files, counting does not.

    Raises:
        InputError: If a path ending in ``.json`` is not a readable tokenizer file.
        ModelError: If the shipped tokenizer is missing or damaged.
    """
    match target_model:
        case "":
            return _EstimateCounter("estimate", _shipped_tokenizer())
        case str() if target_model.endswith(".json"):
            return _TokenizerCounter(target_model, _tokenizer_file(Path(target_model)))
        case str() if target_model == SHIPPED_NAME:
            return _TokenizerCounter(SHIPPED_NAME, _shipped_tokenizer())
        case _:
            return _named_counter(target_model, tiktoken_cache_dir)


def _named_counter(model: str, cache_dir: str) -> TokenCounter:
    """By tiktoken if it knows the model and has what it needs, or an estimate that says why not."""
    try:
        import tiktoken
        from tiktoken.model import encoding_name_for_model
    except ImportError:
        return _EstimateCounter(f"estimate for {model} (tiktoken not installed)", _shipped_tokenizer())
    try:
        encoding_name = model if model in _VOCABULARIES | _SAME_VOCABULARY else encoding_name_for_model(model)
    except KeyError:
        return _EstimateCounter(f"estimate for {model} (unknown model)", _shipped_tokenizer())
    vocabulary_name = _SAME_VOCABULARY.get(encoding_name, encoding_name)
    vocabulary = _VOCABULARIES.get(vocabulary_name)
    path = Path(cache_dir, vocabulary.file_name) if cache_dir and vocabulary else None
    if vocabulary is None or path is None or not path.is_file():
        return _EstimateCounter(f"estimate for {model} (vocabulary not found)", _shipped_tokenizer())
    ranks = _ranks(path, vocabulary.sha256)
    if ranks is None:
        return _EstimateCounter(f"estimate for {model} (vocabulary file damaged)", _shipped_tokenizer())
    encoding = tiktoken.Encoding(vocabulary_name, pat_str=vocabulary.pattern, mergeable_ranks=ranks, special_tokens={})
    return _TiktokenCounter(f"{vocabulary_name} (tiktoken)", encoding)


def _ranks(path: Path, sha256: str) -> dict[bytes, int] | None:
    """Rank by token from a file of "base64 rank" lines; None when it cannot be read or is not the file that was published."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            return None
        pairs = (line.split() for line in content.splitlines() if line)
        return {base64.b64decode(token): int(rank) for token, rank in pairs}
    except (OSError, ValueError, binascii.Error):
        return None


def _shipped_tokenizer() -> Tokenizer:
    try:
        return _tokenizer_file(_SHIPPED_PATH)
    except InputError as error:
        raise ModelError(
            f"shipped tokenizer {_SHIPPED_PATH} is missing or damaged; reinstall ragwatt", code="model_missing"
        ) from error


def _tokenizer_file(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer  # 10 ms of a cold start that counts nothing

    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"tokenizer file {path} cannot be read: {error.strerror}; "
            "give the path of an existing tokenizer.json, a model name or nothing"
        ) from error
    except Exception as error:  # tokenizers raises nothing narrower
        raise InputError(
            f"tokenizer file {path} is not a Hugging Face tokenizer: {error}; take the tokenizer.json that lies beside the model"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _n_pieces(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def _n_space_tokens(run: str) -> int:
    return math.ceil(len(run) / (_SPACES_A_TOKEN if run[0] == " " else _BREAKS_A_TOKEN))
