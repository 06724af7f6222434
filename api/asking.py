"""A question as the engine takes it: what the native routes, the chat and the batch have in common."""

from __future__ import annotations

from dataclasses import dataclass

from api.auth import check_collection, require
from api.keys import Caller
from api.schemas import AnswerOptions, FilterValues
from api.service import Service
from api.work import Way
from rag.conversation import Turn
from rag.engine import Engine
from rag.errors import InputError
from rag.meter import Meter
from rag.types import Answer, Budget, Filters, Query


@dataclass(frozen=True, slots=True)
class Asking:
    """A question to answer, but for the way in which it is answered.

    Attributes:
        text: The question.
        k: Passages to consider.
        filters: Metadata that a document must have.
        budget: Limits of the answer.
        scope: Whose cached answers may be shared.
        history: The conversation before it, oldest first.
        verify: Judge the claims of the answer.
    """

    text: str
    k: int
    filters: Filters
    budget: Budget
    scope: str
    history: tuple[Turn, ...] = ()
    verify: bool = False

    def answered(self, engine: Engine, way: Way, meter: Meter) -> Answer:
        """Ask an engine; see `rag.engine.Engine.ask`."""
        query = Query(self.text, self.k, way.mode, self.filters)
        return engine.ask(query, meter, history=self.history, budget=self.budget, scope=self.scope, verify=self.verify)


def asking(text: str, options: AnswerOptions, default_k: int, who: Caller, history: tuple[Turn, ...] = ()) -> Asking:
    """A question with the options of a request.

    Args:
        text: The question.
        options: Of the request.
        default_k: Passages where the request does not say.
        who: Asks.
        history: The conversation before it.

    Returns:
        What can be asked.
    """
    budget = Budget(options.max_prompt_tokens, options.max_tokens, options.max_energy_j)
    return Asking(text, options.k or default_k, filters_of(options.filters), budget, who.tenant, history, options.verify)


def asked_collection(service: Service, who: Caller, name: str | None) -> str:
    """The collection that a request names, or that of the settings.

    Args:
        service: With the settings.
        who: Asks.
        name: As the request names it.

    Returns:
        A name that the caller may use; whether there is such a collection shows later.

    Raises:
        RefusedError: If the key may not query.
        InputError: ``unknown_collection`` if it may not use that one.
    """
    require(who, "query")
    collection = name or service.settings.collection
    check_collection(who, collection)
    return collection


def filters_of(values: FilterValues) -> Filters:
    """Filters as the engine takes them.

    Args:
        values: One value or several alternatives by key.

    Returns:
        The same as sets.

    Raises:
        InputError: If a key has no value at all.
    """
    filters = {key: frozenset([value] if isinstance(value, str) else value) for key, value in values.items()}
    for key, allowed in filters.items():
        if not allowed:
            raise InputError(f"filter {key[:80]!r} allows no value; give one or more, or leave it out", code="filter")
    return filters


def target_model(name: str | None, own: str) -> str:
    """The model whose tokens are counted.

    Args:
        name: As the request names it.
        own: That of the settings, which may be a path.

    Returns:
        One of the two.

    Raises:
        InputError: If the request names a path: files of this machine are not for clients to choose.
    """
    if name is None or name == own:
        return own
    if "/" in name or "\\" in name or name.endswith(".json"):
        raise InputError(f"target_model {name[:80]!r} looks like a path; give the name of a model", code="target_model")
    return name
