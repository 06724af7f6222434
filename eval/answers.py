"""Whether a text holds or is the right answer, how near it comes, and how well a score tells right from wrong.

The comparison is that of SQuAD v1.1, so that figures can be held against published ones. Containment is asked of whole
words: "1" is not in "1961".
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from rag.errors import InputError
from rag.index.lexical import analyse

# A gold answer of fewer words is one thing, not a statement that could be carried in part.
_STATEMENT_WORDS = 5
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """Fold what SQuAD v1.1 ignores.

    In this order: case, ASCII punctuation (removed, not replaced by a space), English articles, white space.

    Args:
        text: An answer or a passage.

    Returns:
        Words joined by single spaces; may be empty.

    References:
        Rajpurkar et al., EMNLP 2016, doi:10.18653/v1/D16-1264: ``normalize_answer`` of its ``evaluate-v1.1.py``.

    Example:
        >>> normalise_answer("The  U.S.  Army's")
        'us armys'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def contains_answer(text: str, answers: Iterable[str], *, whole_words: bool = True) -> bool:
    """Tell whether a text holds at least one of the answers, both normalised.

    An answer that normalises to nothing ("The", "?") is looked for as it is written, so that it is not found
    everywhere.

    Args:
        text: An answer or a context.
        answers: Gold answers, any of which is right.
        whole_words: Whether the answer must be a run of whole words; otherwise it may stand inside of one, as in much published work.

    Returns:
        True if one is there; False for no answers.

    Example:
        >>> contains_answer("It was in the year 1961, he said.", ["1961", "in 1962"])
        True
        >>> contains_answer("It was in 19610.", ["1961"])
        False
    """
    edge = " " if whole_words else ""
    words = f" {normalise_answer(text)} "
    for answer in answers:
        wanted = normalise_answer(answer)
        if f"{edge}{wanted}{edge}" in words if wanted else bool(answer.strip()) and answer in text:
            return True
    return False


def token_f1(text: str, answers: Iterable[str]) -> float:
    """Overlap of words with the best fitting answer, both normalised: the harmonic mean of precision and recall, as multisets.

    Args:
        text: An answer.
        answers: Gold answers, any of which is right.

    Returns:
        0.0 to 1.0; 0.0 for no answers. Where both texts normalise to nothing they are equal, 1.0.

    References:
        Rajpurkar et al., EMNLP 2016, doi:10.18653/v1/D16-1264: ``f1_score`` of its ``evaluate-v1.1.py``.

    Example:
        >>> round(token_f1("It was in 1961.", ["1961"]), 2)
        0.4
    """
    words = Counter(normalise_answer(text).split())
    return max((_f1(words, Counter(normalise_answer(answer).split())) for answer in answers), default=0.0)


def _f1(words: Counter[str], wanted: Counter[str]) -> float:
    if not words or not wanted:
        return float(words == wanted)
    n_same = (words & wanted).total()
    return 2 * n_same / (words.total() + wanted.total())


def exact_match(text: str, answers: Iterable[str]) -> bool:
    """Tell whether a text is one of the answers, both normalised; False for no answers.

    Args:
        text: An answer.
        answers: Gold answers, any of which is right.

    Returns:
        True if it is.

    References:
        Rajpurkar et al., EMNLP 2016, doi:10.18653/v1/D16-1264: ``exact_match_score`` of its ``evaluate-v1.1.py``.
    """
    return normalise_answer(text) in {normalise_answer(answer) for answer in answers}


def relevance(text: str, answers: Iterable[str]) -> float:
    """Content words in common with the best fitting answer, as index terms (stemmed, without stop words): F1 of the multisets.

    Args:
        text: An answer.
        answers: Gold answers, any of which is right.

    Returns:
        0.0 to 1.0; 0.0 for no answers, and where one side has no content word.

    Example:
        >>> relevance("Heat pumps need electricity.", ["a heat pump"])
        0.6666666666666666
    """
    words = Counter(analyse(text))
    return max((_f1(words, wanted) for answer in answers if (wanted := Counter(analyse(answer)))), default=0.0) if words else 0.0


def is_statement(answer: str) -> bool:
    """Whether a gold answer says something that can be carried in part, and is not just a name or a number."""
    return len(answer.split()) >= _STATEMENT_WORDS


def coverage(question: str, quotes: Iterable[str]) -> float:
    """Share of the distinct index terms of a question that its cited sentences hold: a proxy, which knows no right answer.

    Args:
        question: The question.
        quotes: What the answer cites.

    Returns:
        0.0 to 1.0; 1.0 for a question without any term.
    """
    terms = set(analyse(question))
    return len(terms.intersection(analyse(" ".join(quotes)))) / len(terms) if terms else 1.0


def roc_auc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """Compute the area under the receiver operating characteristic: how often a positive scores above a negative.

    ``(number of pairs with positive > negative + half the number of ties) / number of pairs``, from the ranks of the
    joint order.

    Args:
        positives: Scores of what should score high, at least one, no NaN.
        negatives: Scores of what should score low, at least one, no NaN.

    Returns:
        0.0 to 1.0; 0.5 is chance.

    Raises:
        InputError: If a side is empty or a score is NaN.

    References:
        Mann, Whitney, Ann. Math. Statist. 18(1), 1947, doi:10.1214/aoms/1177730491.

    Example:
        >>> roc_auc([0.9, 0.4], [0.4, 0.1])
        0.875
    """
    if not positives or not negatives:
        raise InputError(f"{len(positives)} positive and {len(negatives)} negative scores; give at least one of each")
    if any(score != score for score in (*positives, *negatives)):
        raise InputError("a score is NaN, which has no order; leave it out or give it a number")
    joint = sorted([(score, 1) for score in positives] + [(score, 0) for score in negatives])
    n_below = 0
    twice_won = 0
    for _, tied in groupby(joint, key=lambda pair: pair[0]):
        sides = [side for _, side in tied]
        n_positive = sum(sides)
        n_negative = len(sides) - n_positive
        twice_won += n_positive * (2 * n_below + n_negative)
        n_below += n_negative
    return twice_won / (2 * len(positives) * len(negatives))
