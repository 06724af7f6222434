"""Pairs of questions made by rule: such as one answer serves, and such as it must not.

The rules work on the words of a question, without a parser, so some products are clumsy English. A pair is left out where a rule does
not apply. Paraphrases keep what is asked; near misses change it by as little as possible. Beside them stand pairs written by hand, most
of them to deceive: ``handmade.txt``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

_FLAGS = re.IGNORECASE
# Articles and the like before a name, and question words, which begin with a capital for another reason.
_NAME = re.compile(r"(?<=[\w,] )(?:[A-Z][\w&.-]*[\w&])(?: (?:[A-Z][\w&.-]*[\w&]))*")
_NUMBER = re.compile(r"(?<![\w.,])\d[\d,.]*\d|(?<![\w.,])\d(?![\w])")
_WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()
_NUMBER_WORD = re.compile(rf"\b(?:{'|'.join(_WORDS[2:])})\b", _FLAGS)

Rule = Callable[[str, Random], str | None]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions.

    Attributes:
        kind: Name of the rule that made the second from the first; of a handmade pair its part, ``same`` or ``different``, and its kind.
        paragraph: Number of the paragraph that answers the first; 0 of a handmade pair.
        one: A question of the data set.
        other: Made from it, or another of the data set.
    """

    kind: str
    paragraph: int
    one: str
    other: str


def _swap(*table: tuple[str, str]) -> Rule:
    """Rewrite by the first row that applies."""
    rows = [(re.compile(pattern, _FLAGS), by) for pattern, by in table]

    def rule(question: str, _random: Random) -> str | None:
        for pattern, by in rows:
            changed = pattern.sub(by, question, count=1)
            if changed != question:
                return changed[:1].upper() + changed[1:]
        return None

    return rule


def _exchange(words: str) -> Rule:
    """Put one of two words in the place of the other, either way; ``words`` holds pairs with a slash between them."""
    pairs = [pair.split("/") for pair in words.split()]
    other = {a: b for a, b in pairs} | {b: a for a, b in pairs}
    pattern = re.compile(rf"\b(?:{'|'.join(other)})\b", _FLAGS)

    def rule(question: str, _random: Random) -> str | None:
        if not pattern.search(question):
            return None
        changed = pattern.sub(lambda m: other[m.group().lower()], question, count=1)
        return changed[:1].upper() + changed[1:]

    return rule


def _bare(question: str) -> str:
    """Without its mark, beginning in lower case: fit to follow other words."""
    body = question.strip().rstrip("?").strip()
    return body[:1].lower() + body[1:]


def _plain(question: str, _random: Random) -> str:
    return re.sub(r"[?,\"]", "", question).lower().strip()


def _polite(question: str, random: Random) -> str:
    before = (
        "Please tell me: ",
        "Could you tell me ",
        "Hello, ",
        "Can you please tell me, ",
        "I would like to know ",
        "Do you know ",
    )
    return f"{random.choice(before)}{_bare(question)}{random.choice(('?', ', please?', '? Thanks.'))}"


def _without_articles(question: str, _random: Random) -> str | None:
    changed = re.sub(r"\b(?:the|an?) (?=[a-z])", "", question)
    return changed if changed != question else None


def _fronted(question: str, _random: Random) -> str | None:
    found = re.fullmatch(
        r"(.+) ((?:in|on|at|during|after|before|from|until|by) (?:the )?(?:\d{4}|[A-Z]\w+)(?: [A-Z]\w+)*)\s*\?", question
    )
    return f"{found[2][:1].upper()}{found[2][1:]}, {_bare(found[1])}?" if found else None


def _indirect(question: str, random: Random) -> str | None:
    found = re.fullmatch(r"(what|who|where) (is|are|was|were) ((?:the|an?) .+?)\s*\??", question, _FLAGS)
    if not found:
        return None
    before = random.choice(("I want to know", "Tell me", "Do you happen to know", "Could you tell me"))
    return f"{before} {found[1].lower()} {found[3]} {found[2]}."


def _echo(question: str, _random: Random) -> str | None:
    found = re.fullmatch(r"(what|who|where) (is|are|was|were) ((?:the|an?) .+?)\s*\??", question, _FLAGS)
    return f"{found[3][:1].upper()}{found[3][1:]} {found[2]} {found[1].lower()}?" if found else None


def _digits(question: str, _random: Random) -> str | None:
    changed = _NUMBER_WORD.sub(lambda m: str(_WORDS.index(m.group().lower())), question)
    if changed == question:
        changed = re.sub(r"(?<![\w.,])(?:[2-9]|1[012])(?![\w.,%])", lambda m: _WORDS[int(m.group())], question)
    return changed if changed != question else None


def _passive(question: str, _random: Random) -> str | None:
    found = re.fullmatch(r"who (\w+ed) ((?:the |an? )?[^,]+?)\s*\?", question, _FLAGS)
    if found:
        return f"By whom was {found[2]} {found[1]}?"
    found = re.fullmatch(r"(what|which) (\w+) did ((?:the )?[A-Z][\w' ]*?) (\w+(?:e|ct|nt|st|sh|ch))\s*\?", question, _FLAGS)
    ending = "d" if found and found[4].endswith("e") else "ed"
    return f"{found[1]} {found[2]} was {found[4]}{ending} by {found[3]}?" if found else None


PARAPHRASES: dict[str, Rule] = {
    "plain": _plain,
    "polite": _polite,
    "articles": _without_articles,
    "contraction": _swap(
        (r"\b(what|who|where|when|how) is\b", r"\1's"),
        (r"\b(did|does|do|is|are|was|were|has|have|could) not\b", r"\1n't"),
        (r"\b(did|does|is|are|was)n't\b", r"\1 not"),
        (r"\b(what|who|where)'s\b", r"\1 is"),
    ),
    "question word": _swap(
        (r"^(?:in |during )?(?:what|which) year\b", "when"),
        (r"^when\b", "in what year"),
        (r"^where\b", "in which place"),
        (r"^(?:for )?what reason\b", "why"),
        (r"^why\b", "for what reason"),
        (r"^who (?!is|are|was|were)", "which person "),
        (r"^how many\b", "what number of"),
        (r"\bwhich\b", "what"),
        (r"\bwhat (type|kind)s? of\b", "what sort of"),
        (r"\bwhat (?!is|are|was|were|do|did|does|has|have|had|can)", "which "),
    ),
    "name of": _swap(
        (r"^what (is|was) the name of\b", "which \\1"),
        (
            r"^(?:what|which) (company|player|city|river|band|university|show|network|song|treaty|team|bill) (?=\w+ed\b)",
            r"which \1 ",
        ),
        (r"^what (is|are) the\b", "Name the"),
    ),
    "fronted": _fronted,
    "indirect": _indirect,
    "echo": _echo,
    "digits": _digits,
    "passive": _passive,
    "possessive": _swap((r"\bthe (\w+) of ([A-Z]\w+)(?=\?| in\b)", r"\2's \1"), (r"\b([A-Z]\w+)'s (\w+)\?", r"the \2 of \1?")),
}
# Content words: no rule of the cache knows that they mean the same, so these are answered afresh. Not counted among the paraphrases.
SYNONYM = _exchange(
    "begin/start began/started large/big largest/biggest buy/purchase happened/occurred caused/provoked created/made job/occupation "
    "built/constructed people/inhabitants famous/well-known received/got obtained/acquired main/chief important/significant "
    "difficult/hard released/published destroyed/ruined ended/finished needed/required used/employed called/termed located/situated "
    "given/handed founded/established kill/slay killed/slain helped/assisted led/headed show/display allowed/permitted fast/quick"
)

_ANTONYMS = _exchange(
    "first/last most/least highest/lowest largest/smallest before/after north/south east/west northern/southern eastern/western "
    "more/fewer increase/decrease increased/decreased won/lost win/lose begin/end began/ended start/stop started/stopped old/new "
    "early/late earlier/later oldest/newest with/without higher/lower greater/less larger/smaller major/minor rich/poor above/below "
    "minimum/maximum inside/outside support/oppose supported/opposed male/female good/bad positive/negative public/private to/from "
    "beginning/end allowed/forbidden open/close opened/closed strong/weak born/died"
)


def _other_number(question: str, random: Random) -> str | None:
    found = _NUMBER.search(question)
    if found:
        text = found.group()
        digit = random.choice([i for i, char in enumerate(text) if char.isdigit()])
        changed = random.choice([d for d in "123456789" if d != text[digit]])
        return question[: found.start()] + text[:digit] + changed + text[digit + 1 :] + question[found.end() :]
    named = _NUMBER_WORD.search(question)
    if named:
        word = random.choice([w for w in _WORDS[2:] if w != named.group().lower()])
        return question[: named.start()] + word + question[named.end() :]
    return None


def _turned(question: str, _random: Random) -> str | None:
    """The two first names in each other's place; or the subject in the object's."""
    names = list(_NAME.finditer(question))
    if len(names) >= 2 and names[0].group() != names[1].group():
        one, two = names[0], names[1]
        return question[: one.start()] + two.group() + question[one.end() : two.start()] + one.group() + question[two.end() :]
    found = re.fullmatch(r"who (\w+ed) ([A-Z][\w ]*?)\s*\?", question, _FLAGS)
    return f"Who did {found[2]} {found[1].removesuffix('ed')}?" if found else None


_NEGATED = _swap(
    (r"\b(did|does|do|can|could|should|would|must|may|will)(?: not|n't)\b", r"\1"),
    (r"\b(did|does|do) ((?:the |an? )?[\w']+)", r"\1 \2 not"),
    (r"\b(can|could|should|would|must|may|will)\b", r"\1 not"),
    (r"\b(is|are|was|were|has|have)(?: not|n't)\b", r"\1"),
    (r"\b(is|are|was|were|has|have)\b", r"\1 not"),
    (r"^who (\w+ed)\b", r"who never \1"),
    (r"^(\w+) (\w+)\b", r"\1 \2 not"),
)

NEAR_MISSES: dict[str, Rule] = {
    "number": _other_number,
    "negation": _NEGATED,
    "antonym": _ANTONYMS,
    "turned": _turned,
    "question word asked": _swap(
        (r"^who\b", "when"),
        (r"^when\b", "where"),
        (r"^where\b", "when"),
        (r"^how many\b", "which"),
        (r"^why\b", "when"),
        (r"^how\b", "why"),
        (r"^(?:in )?what year\b", "in what city"),
        (r"^what (do|did|does|is|are|was|were)\b", r"why \1"),
    ),
    "tense": _exchange("is/was are/were does/did do/did has/had will/did"),
}


def paraphrases(questions: Sequence[tuple[str, int]], seed: int) -> list[Pair]:
    """Every kind of paraphrase of every question that has one.

    Args:
        questions: Each with the number of its paragraph.
        seed: Of the choices within a rule.

    Returns:
        Pairs in the order of the questions, kinds in the order of `PARAPHRASES`, then ``synonym``.
    """
    random = Random(seed)
    return _made(questions, PARAPHRASES | {"synonym": SYNONYM}, random)


def near_misses(questions: Sequence[tuple[str, int]], seed: int) -> list[Pair]:
    """Every kind of near miss of every question that has one.

    Args:
        questions: Each with the number of its paragraph.
        seed: Of the choices within a rule.

    Returns:
        Pairs in the order of the questions; other names come from the questions given, half of them from the same paragraph where it
        has another.
    """
    random = Random(seed)
    names = sorted({(name, paragraph) for question, paragraph in questions for name in _NAME.findall(question)})
    by_paragraph: dict[int, list[str]] = {}
    for name, paragraph in names:
        by_paragraph.setdefault(paragraph, []).append(name)
    pairs = _made(questions, NEAR_MISSES, random)
    for question, paragraph in questions:
        found = _NAME.search(question)
        if found is None:
            continue
        same = _core(found.group())
        near = [name for name in by_paragraph[paragraph] if _core(name) != same]
        far = [name for name, _ in names if _core(name) != same]
        name = random.choice(near if near and random.random() < 0.5 else far)
        pairs.append(Pair("entity", paragraph, question, question[: found.start()] + name + question[found.end() :]))
    return pairs


def _core(name: str) -> str:
    """A name without article and plural: "Huguenot" is no other name than "the Huguenots"."""
    return name.removeprefix("The ").rstrip("s")


def _made(questions: Sequence[tuple[str, int]], rules: dict[str, Rule], random: Random) -> list[Pair]:
    pairs = []
    for text, paragraph in questions:
        question = text.strip()
        for kind, rule in rules.items():
            other = rule(question, random)
            if other is not None and " ".join(other.split()) != " ".join(question.split()):
                pairs.append(Pair(kind, paragraph, question, other))
    return pairs


def handmade_pairs() -> list[Pair]:
    """Pairs written by hand, in the order of their file.

    Returns:
        Pairs whose kinds begin with ``dev``, on which rules may be chosen, ``test`` or ``late``, which may only be read.
    """
    pairs, kind = [], ""
    for line in (Path(__file__).parent / "handmade.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            kind = line.strip("[]")
        elif line and not line.startswith("#"):
            one, other = line.split(" | ")
            pairs.append(Pair(kind, 0, one, other))
    return pairs
