"""Whether two questions ask the same: rules on their words, because near misses have the cosine of paraphrases.

Another number, another name, a negation or a swapped subject changes the right answer and hardly the vector: on XQuAD a cosine alone
that lets half a percent of the near misses through finds next to no paraphrase (`bench.cache` has the figures). So a question is
reduced to what must be equal: what it asks for, its words without their endings, and the order in which they stand. Words that only ask
("could you tell me", "what is the name of") say nothing. There is no list of synonyms: a question in other words is answered afresh,
which costs a little, and a wrong answer from a cache costs more.

The rules know English. Of other languages every word counts, so only order and case may differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from rag.text import normalise

Tense = Literal["past", "present", "future", ""]

_BE = frozenset("is are was were am be been being".split())
_DO = frozenset("do does did".split())
_TENSES: dict[str, Tense] = {word: "past" for word in "was were did had".split()}
_TENSES |= {word: "present" for word in "is are am do does has have".split()}
_TENSES |= {word: "future" for word in "will shall".split()}
_AUXILIARIES = frozenset(_TENSES) | frozenset("can could would should may might must".split())
# Shorter words keep their endings: gas, used, bed.
_MIN_STEM = 3
_ARTICLES = frozenset({"the", "a", "an"})
_PREPOSITIONS = frozenset("in on at of to from for with during after before until since under".split())
_ASKING = ("who", "whose", "when", "where", "why", "how", "what")
# What an answer does not depend on; "not", "no", "or", "to", "from", "for", "with" and the rest count.
_EMPTY = _BE | _DO | frozenset("has have had a an the this that these those there it its of in on at by and".split())

_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen".split()
_NUMBERS += ["nineteen", "twenty"]
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
_DIGITS = {word: str(i) for i, word in enumerate(_NUMBERS)}
_DIGITS |= {word: f"{i}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(i, 'th') }" for i, word in enumerate(_ORDINALS, 1)}
_DIGITS |= {word: str(10 * i) for i, word in enumerate("thirty forty fifty sixty seventy eighty ninety".split(), 3)}
_DIGITS |= {"%": "percent"}

# Numbers with sign, point and separators are one token; so are words; so is each sign, for "C++" is not "C#".
_TOKEN = re.compile(r"(?<!\w)[-−]?\d+(?:[.,:]\d+)*(?!\w)|\w+|[^\w\s]")
_PUNCTUATION = frozenset("?.,!;:()[]\"'`“”‘«»…-–—/¿¡")
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+")

# Rewritten in this order, on lower-case text.
_REWRITES = tuple(
    (re.compile(pattern), by)
    for pattern, by in (
        ("’", "'"),
        (r"\b(what|who|where|when|why|how|that|there|it)'s\b", r"\1 is"),
        (r"\bcan(?:'t|not)\b", "can not"),
        (r"\bwon't\b", "will not"),
        (r"n't\b", " not"),
        (r"'re\b", " are"),
        (r"'d like\b", " would like"),
        (r"'s?(?!\w)", ""),
        # Words before and after the question.
        (r"^\W*(?:(?:please|hi|hello|hey|excuse me|so|ok|okay|well)\b[\s,.!:]*)+", ""),
        (r"^(?:can|could|would|will) you (?:please |kindly )?(?=(?:tell|show|give) (?:me|us)\b)", ""),
        (r"^(?:do|does|would) (?:you|anyone|anybody) (?:happen to )?know\b[\s,:]*", ""),
        (r"^i (?:would like|want|need|wish) to (?:know|find out|learn)\b[\s,:]*", ""),
        (r"^i (?:wonder|was wondering|am wondering)\b[\s,:]*", ""),
        (r"^(?:(?:tell|show|give) (?:me|us)|name|list|state|identify)\b[\s,:]*(?=(?:the|an?) )", "what "),
        (r"^(?:(?:tell|show|give) (?:me|us)|name|list|state|identify)\b[\s,:]*", ""),
        (r"[\s,]*\b(?:please|thanks|thank you)\W*$", ""),
        # Several ways to ask for one thing.
        (r"\bwhom\b", "who"),
        (r"\bwhich\b", "what"),
        (r"\bwhat (is|was|are|were) (?:the )?names? of\b", r"what \1"),
        (r"^(what )?(?:the )?names? of\b", r"\1"),
        (r"\bwhat (is|was|are|were) the (?:total )?number of\b", r"how many \1"),
        (r"\bwhat number of\b", "how many"),
        (r"\bwhat (is|was) the amount of\b", r"how much \1"),
        (r"\bwhat amount of\b", "how much"),
        (r"\bwhat (is|was) the reason (?:that|why|for)\b", r"why \1"),
        (r"\b(?:for )?what reason\b|\bhow come\b", "why"),
        (r"\bwhat (?:is|was) the year (?:in what|when|that)\b", "when"),
        (r"\b(?:in |during )?what year\b", "when"),
        (r"\b(?:in |at )?what (?:place|location)\b", "where"),
        (r"\bwhat (?:person|people|individual)\b", "who"),
        (r"\bin what (?:way|manner)\b|\bby what means\b", "how"),
        (r"\b(?:type|sort)(s?) of\b", r"kind\1 of"),
    )
)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What must be equal in two questions for one answer to serve both.

    Attributes:
        asks: The first question word; ``whether`` where a verb stands first, ``what`` where there is neither.
        tense: Of the first auxiliary, else of the endings; "" when the words do not tell.
        is_passive: Whether it tells or asks by whom something is done.
        agent: Who does it: first word of the name after "by" or "did", ``?`` when that is what is asked, "" when the words do not tell.
        terms: Stems of the words that count, in order, with repeats; numbers as digits.
        n_before: How many of them stand before the question word.
    """

    asks: str
    tense: Tense
    is_passive: bool
    agent: str
    terms: tuple[str, ...]
    n_before: int


@lru_cache(4096)  # 60 microseconds each, and the same questions come up again
def meaning_of(question: str) -> Meaning:
    """Reduce a question to what must be equal.

    Args:
        question: As asked.

    Returns:
        Its meaning, as far as rules can tell.

    Example:
        >>> meaning_of("Could you tell me which theory Einstein proposed?").terms
        ('theory', 'einstein', 'propos')
    """
    tokens = _tokens(question)
    starts_with_verb = bool(tokens) and tokens[0] in _AUXILIARIES
    at = None if starts_with_verb else next((i for i, token in enumerate(tokens) if token in _ASKING), None)
    is_passive = "by" in tokens and any(token in _BE for token in tokens)
    before, after = ([], tokens) if at is None else (_counting(tokens[:at]), _counting(tokens[at + 1 :]))
    return Meaning(
        asks="whether" if starts_with_verb else "what" if at is None else tokens[at],
        tense=_tense(tokens, at),
        is_passive=is_passive,
        agent=_agent(tokens, at, is_passive),
        terms=(*before, *after) if at is not None else _counting(tokens),
        n_before=len(before),
    )


def ask_the_same(one: Meaning, other: Meaning) -> bool:
    """Whether an answer to one question answers the other.

    Question word and words must be equal, tense and doer too where both tell. So must the order of the words be, but for a phrase that
    moved from the end to the front of the question word, and for the passive, which moves the doer and the verb.

    Args:
        one: A question.
        other: Another.

    Returns:
        True only if no rule tells them apart; the relation is symmetric.

    Example:
        >>> ask_the_same(meaning_of("When was Paris founded?"), meaning_of("Please tell me what year Paris was founded"))
        True
        >>> ask_the_same(meaning_of("Who did Tesla hire?"), meaning_of("Who hired Tesla?"))
        False
    """
    if one.asks != other.asks or sorted(one.terms) != sorted(other.terms):
        return False
    if any(x and y and x != y for x, y in ((one.tense, other.tense), (one.agent, other.agent))):
        return False
    if one.is_passive != other.is_passive:
        return bool(one.agent and other.agent) and _is_turned(one, other)
    return one.terms == other.terms or _is_fronted(one, other) or _is_fronted(other, one)


def _tokens(question: str) -> list[str]:
    text = " ".join(normalise(question).lower().split())
    for pattern, by in _REWRITES:
        text = pattern.sub(by, text)
    tokens = (_DIGITS.get(token, token) for token in _TOKEN.findall(text) if token not in _PUNCTUATION)
    return [token.replace(",", "") if _THOUSANDS.fullmatch(token) else token.replace("−", "-") for token in tokens]


def _counting(tokens: list[str]) -> tuple[str, ...]:
    return tuple(_stem(token) for token in tokens if token not in _EMPTY)


def _stem(token: str) -> str:
    """Without the endings of plural, third person and past; a stemmer of search engines takes Islamism for Islam."""
    if len(token) <= _MIN_STEM + 1:
        return token
    if token.endswith("ies"):
        return token[:-3] + "y"
    if token.endswith("s") and not token.endswith(("ss", "us", "is")):
        token = token[:-1]
    if token.endswith("ed") and len(token) > _MIN_STEM + 1:
        token = token[:-2]
    return token.removesuffix("e") if len(token) > _MIN_STEM else token


def _agent(tokens: list[str], at: int | None, is_passive: bool) -> str:
    if is_passive:
        by = tokens.index("by")
        named = tokens[by + 1 :]
        # "By whom", and "whom was it founded by".
        if by + 1 in {at, len(tokens)}:
            return "?"
    elif at is None or any(token in _AUXILIARIES for token in tokens[at + 1 :]):
        named = next((tokens[i + 1 :] for i, token in enumerate(tokens) if token in _DO), [])
    else:
        # "In 1915, who ..." begins with a circumstance, "Einstein proposed what theory" with somebody.
        is_subject = tokens[at] in {"who", "what"} and (at == 0 or tokens[0] in _PREPOSITIONS)
        return "?" if is_subject else ""
    return next(iter(_counting(named)), "")


def _tense(tokens: list[str], at: int | None) -> Tense:
    for token in tokens:
        if token in _TENSES:
            return _TENSES[token]
    following = "" if at is None else "".join(tokens[at + 1 : at + 2])
    if following in _ARTICLES:  # "Name the ...": what it is now
        return "present"
    if any(token.endswith("ed") for token in tokens):
        return "past"
    return "present" if following.endswith("s") and not following.endswith("ss") else ""


def _is_fronted(one: Meaning, other: Meaning) -> bool:
    """Whether the last words of one are those before the question word of the other."""
    n = other.n_before
    return 0 == one.n_before < n < len(one.terms) and one.terms[-n:] + one.terms[:-n] == other.terms


def _is_turned(one: Meaning, other: Meaning) -> bool:
    """Whether nothing but the name of the doer and one word, the verb, stands elsewhere."""
    a, b = one.terms, other.terms
    if one.agent != "?":
        i, j = a.index(one.agent), b.index(one.agent)
        n = next((n for n, (x, y) in enumerate(zip(a[i:], b[j:], strict=False)) if x != y), min(len(a) - i, len(b) - j))
        a, b = a[:i] + a[i + n :], b[:j] + b[j + n :]
    return a == b or any(
        a[:i] + a[i + 1 :] == b[:j] + b[j + 1 :] for i, word in enumerate(a) for j, same in enumerate(b) if word == same
    )
