"""What a sentence states beyond its topic: numbers in one form, negations, names. Compared by whoever checks a text against another."""

from __future__ import annotations

import re

from rag.index.lexical import analyse

_WORD = re.compile(r"\w+")
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|\w+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_ARTICLES = frozenset(("a", "an", "the"))
# Not "one", which mostly counts nothing.
_NUMBER_WORDS = dict(
    zip(
        "zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen "
        "twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion".split(),
        [*map(str, (0, *range(2, 20), *range(20, 100, 10))), "100", "1000", "1000000", "1000000000"],
        strict=True,
    )
)
_NEGATION = re.compile(r"\b(?:no|not|nor|never|none|nobody|nothing|neither|cannot|without)\b|n['’]t\b")


def plain_words(text: str) -> list[str]:
    """Words of a text, in order, with repeats.

    Args:
        text: Any text.

    Returns:
        Lower case, without articles; numbers as `plain` writes them.

    Example:
        >>> plain_words("The 1,200 boats of twelve Danes")
        ['1200', 'boats', 'of', '12', 'danes']
    """
    return [plain(word) for word in _TOKEN.findall(text.lower()) if word not in _ARTICLES]


def plain(word: str) -> str:
    """A number in digits, without grouping and without zeros that say nothing; another word of lower case as it is."""
    if not is_number(word):
        return _NUMBER_WORDS.get(word, word)
    if _GROUPED.fullmatch(word):
        word = word.replace(",", "")
    if re.fullmatch(r"\d+\.\d+", word):
        word = word.rstrip("0").rstrip(".")
    return word.lstrip("0") or "0"


def is_number(word: str) -> bool:
    """Whether a word is written in digits, with commas and points between them or without."""
    return _NUMBER.fullmatch(word) is not None


def numbers_of(text: str) -> frozenset[str]:
    """Numbers of a text as `plain` writes them, those inside of words too; without "one", which mostly counts nothing.

    Args:
        text: Any text.

    Returns:
        Distinct numbers.

    Example:
        >>> sorted(numbers_of("In the 1990s, 2.50 m, two of them and the one"))
        ['1990', '2', '2.5']
    """
    return frozenset(plain(number) for number in _NUMBER.findall(" ".join(plain_words(text))))


def n_negations(text: str) -> int:
    """Count words like "not", and the end of "isn't"."""
    return len(_NEGATION.findall(text.lower()))


def names_of(text: str) -> frozenset[str]:
    """Index terms of the capitalised words of a sentence but its first.

    Args:
        text: One sentence.

    Returns:
        Distinct terms.

    Example:
        >>> sorted(names_of("Bridges by Ida Holm"))
        ['holm', 'ida']
    """
    return frozenset(term for word in _WORD.findall(text)[1:] if word[0].isupper() for term in analyse(word))
