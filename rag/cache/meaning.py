"""Whether two questions ask the same: rules on their words, because near misses have the cosine of paraphrases.

Another number, another name, a negation or a swapped subject changes the right answer and hardly the vector: on XQuAD a cosine alone
that lets half a percent of the near misses through finds next to no paraphrase (`bench.cache` has the figures). So both questions are
brought into one form, and there every word, its ending and its place must be equal. The form leaves out the words that only ask
("could you tell me") and articles, takes the first "is", "was", "do" or "did" out of its place, which English changes, turns the
regular passive into the active, and puts a phrase from before the question word at the end. There is no list of synonyms and no
stemming: a question in other words is answered afresh, which costs a little, and a wrong answer from a cache costs more.

The rules know English. Of other languages only case and signs may differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from rag.cache.entry import fold
from rag.text import normalise

# They move with the form of a question; which one it was still counts, but for number: "is" or "are".
_MOVING = {"is": "is", "are": "is", "was": "was", "were": "was", "do": "do", "does": "does", "did": "did"}
_VERBS_FIRST = frozenset(_MOVING) | frozenset("has have had will shall can could would should may might must".split())
_PREPOSITIONS = "in on at of to from for with under during after before until since by".split()
_ASKING = frozenset("who whose when where why how what".split())
# Their past is no other word: "what people read" may be "what did people read".
_UNCHANGED = frozenset("beat bet burst cast cost cut hit hurt let put quit read set shut split spread".split())
_ARTICLES = frozenset(("the", "a", "an", "The", "An"))  # not "A": "Type A"

_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen".split()
_NUMBERS += ["nineteen", "twenty"]
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
_DIGITS = {word: str(i) for i, word in enumerate(_NUMBERS)}
_DIGITS |= {word: f"{i}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(i, 'th') }" for i, word in enumerate(_ORDINALS, 1)}
_DIGITS |= {word: str(10 * i) for i, word in enumerate("thirty forty fifty sixty seventy eighty ninety".split(), 3)}
_DIGITS |= {"%": "percent"}

# Numbers with sign, point and separators are one token; so are words; so is each sign, for "C++" is not "C#".
_TOKEN = re.compile(r"(?<!\w)[-−]?\d+(?:[.,:/–-]\d+)*(?!\w)|\w+|[^\w\s]")
_PUNCTUATION = frozenset("?.,!;:()[]\"'`“”‘«»…-–—/¿¡")
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+")
_VERB_NEXT = rf"(?= (?:{'|'.join(sorted(_VERBS_FIRST))})\b)"

# Rewritten in this order.
_REWRITES = tuple(
    (re.compile(pattern, re.IGNORECASE), by)
    for pattern, by in (
        ("’", "'"),
        (r"\b(what|who|where|when|why|how|that|there|it)'s\b", r"\1 is"),
        (r"\bcan(?:'t|not)\b", "can not"),
        (r"\bwon't\b", "will not"),
        (r"n't\b", " not"),
        (r"'d like\b", " would like"),
        # Words before and after the question.
        (r"^\W*(?:(?:please|hi|hello|hey|excuse me|so|ok|okay|well)\b[\s,.!:]*)+", ""),
        (r"^(?:can|could|would|will) you (?:please |kindly )?(?=(?:tell|show|give) (?:me|us)\b)", ""),
        (r"^(?:do|does|would) (?:you|anyone|anybody) (?:happen to )?know\b[\s,:]*", ""),
        (r"^i (?:would like|want|need|wish) to (?:know|find out|learn)\b[\s,:]*", ""),
        (r"^i (?:wonder|was wondering|am wondering)\b[\s,:]*", ""),
        (r"^(?:(?:tell|show|give) (?:me|us)|name|list|state|identify)\b[\s,:]*(?=(?:the|an?) )", "what is "),
        (r"^(?:tell|show|give) (?:me|us)\b[\s,:]*", ""),
        (r"(?<![\s,])[\s,]*\b(?:please|thanks|thank you)\W*$", ""),
        (r"(?<![\s?.!])[\s?.!]+$", ""),
        # Several ways to ask for one thing.
        (r"\bwhom\b", "who"),
        (r"\bwhich\b", "what"),
        (r"\bwhat number of\b", "how many"),
        (rf"\bfor what reason\b{_VERB_NEXT}", "why"),
        (r"\b(?:in|during) what year\b|\bwhat year\b(?= (?:was|were|did)\b)", "when"),  # "what year is it" asks for no date
        (r"^what person\b(?!.* in$)", "who"),
        (r"\bin what (?:way|manner)\b|\bby what means\b", "how"),
        (r"\b(?:type|sort|kind)s? of\b", "kind of"),
        # The passive, where a form in -ed shows that the active has the same.
        (r"^by who (?:was|were) (.+) (\w+ed)$", r"who \2 \1"),
        (r"^who (?:was|were) (.+) (\w+ed) by$", r"who \2 \1"),
        (r"^(.+) (?:was|were) (\w+ed) by who$", r"who \2 \1"),
        (r"^(what .{1,99}|when|where|why|how) (?:was|were) (.{1,99} )?(\w+ed) by (.+)$", r"\1 \4 \3 \2"),
    )
)


@dataclass(frozen=True, slots=True)
class Meaning:
    """A question in the form in which it is compared.

    Attributes:
        asks: The first question word; ``whether`` where a verb stands first, ``what`` where there is neither.
        verb: The first "is", "was", "do", "does" or "did", where "is" and "was" stand for the plural too; "" without one.
        terms: The other words but articles, in small letters and order; numbers as digits.
    """

    asks: str
    verb: str
    terms: tuple[str, ...]


@lru_cache(4096)  # 150 microseconds each, and the same questions come up again
def meaning_of(question: str) -> Meaning:
    """Bring a question into the form in which it is compared.

    Args:
        question: As asked.

    Returns:
        Its meaning, as far as rules can tell.

    Example:
        >>> meaning_of("Could you tell me in which year the Red Cross was founded?")
        Meaning(asks='when', verb='was', terms=('red', 'cross', 'founded'))
    """
    tokens = _tokens(question)
    starts_with_verb = bool(tokens) and tokens[0] in _VERBS_FIRST
    at = None if starts_with_verb else next((i for i, token in enumerate(tokens) if token in _ASKING), None)
    asks = "whether" if starts_with_verb else "what" if at is None else tokens[at]
    before, after = (tokens[:at], tokens[at + 1 :]) if at is not None else ([], tokens)
    # "What is the rent", "the rent is what", "what the rent is"; else the first one: "when the rent is due".
    places = ((after, 0), (before, -1), (after, -1), *((part, i) for part in (before, after) for i in range(len(part))))
    verb = next((_MOVING[part.pop(i)] for part, i in places if part and part[i] in _MOVING), "")
    terms = after + before if before and before[0] in _PREPOSITIONS else before + after
    return Meaning(asks, verb, tuple(fold(term) for term in terms))


def ask_the_same(one: Meaning, other: Meaning) -> bool:
    """Whether an answer to one question answers the other.

    Args:
        one: A question.
        other: Another.

    Returns:
        True only if no rule tells them apart; the relation is symmetric.

    Example:
        >>> ask_the_same(meaning_of("When was Paris founded?"), meaning_of("Tell me in what year Paris was founded"))
        True
        >>> ask_the_same(meaning_of("Who did Tesla hire?"), meaning_of("Who hired Tesla?"))
        False
    """
    if one.asks != other.asks or not one.terms:  # nothing but words that only ask
        return False
    return one == other or _is_direct(one, other) or _is_direct(other, one)


def _is_direct(one: Meaning, other: Meaning) -> bool:
    """Whether one asks with "do" or "did" what the other tells without: "when did the war end" and "when the war ended".

    Not with "does": its ending is that of a plural, as in "what does the cook need" and "what the cooks need".
    """
    if other.verb or len(one.terms) != len(other.terms):
        return False
    changed = [(a, b) for a, b in zip(one.terms, other.terms, strict=True) if a != b]
    if one.verb == "do":
        return not changed and _UNCHANGED.isdisjoint(one.terms)
    return one.verb == "did" and len(changed) == 1 and _past(changed[0][0]) == changed[0][1]


def _past(verb: str) -> str:
    """Of a regular verb."""
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        return f"{verb[:-1]}ied"
    return verb + ("d" if verb.endswith("e") else "ed")


def _tokens(question: str) -> list[str]:
    """Words, signs and numbers without articles; names begin with a capital unless they stand first."""
    text = " ".join(normalise(question).split())
    if text.isupper():
        text = text.lower()
    text = text[:1].lower() + text[1:]
    for pattern, by in _REWRITES:
        text = pattern.sub(by, text)
    tokens = [
        _DIGITS.get(token.lower(), token) for token in _TOKEN.findall(text[:1].lower() + text[1:]) if token not in _PUNCTUATION
    ]
    # "Vitamin A", and "vitamin a for".
    following = zip(tokens, [*tokens[1:], "of"], strict=False)
    tokens = [token for token, after in following if token not in _ARTICLES or after in _PREPOSITIONS or after in _MOVING]
    return [token.replace(",", "") if _THOUSANDS.fullmatch(token) else token.replace("−", "-") for token in tokens]
