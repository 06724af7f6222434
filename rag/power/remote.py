"""Joules of one request to a language model on somebody else's servers (package ecologits, extra [remote-energy]).

Nobody can measure them from here: they are modelled from the size of the model and the number of tokens that it wrote. What cannot be
modelled is an error, which makes the energy *unknown* (`unknown_remote`), never zero and never a default.

What the figure holds: GPUs and their share of the server, times the PUE of the provider as the library knows it, so the PUE of this
site must not be put on top. What it does not hold: the reading of the prompt, the making of the hardware, the network. Grams need the
grid of the provider, not that of this site.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rag.cost import Figure
from rag.errors import MissingExtraError, PowerError

if TYPE_CHECKING:
    from ecologits.model_repository import Model

_J_PER_KWH = 3.6e6
# The library's fit starts at 7 billion parameters. Below, its energy of a token is nearly the constant of the fit, which no small model
# was measured for, so the low end shrinks in proportion to the parameters instead. Below 1 billion not even that is known.
_FIT_MIN_B = 7.0
_MIN_B = 1.0
# The library takes it that a server works at 64 requests at once. At 128 and at 32 its figures are 0.52 to 1.56 times as high, over all
# 351 models of version 0.11.3 and answers of 300 tokens in 0.5 to 30 s.
_BATCH_LO = 0.5
_BATCH_HI = 1.6


def unknown_remote() -> str:
    """Name of the quantity for ``not_modelled``, where `remote_energy` raised or was not asked."""
    return "remote_energy"


def remote_energy(provider: str, model: str, n_completion_tokens: int, latency_s: float) -> Figure:
    """Model the energy of one request to a remote language model.

    The range of the library, whose ends are those of the parameters of unpublished models, is widened by how many requests the server
    may work at at once, and downwards for models smaller than those that the formula was fit on.

    Args:
        provider: As the library calls it: ``openai``, ``anthropic``, ``mistralai``, ``cohere``, ``google_genai``, ``huggingface_hub``.
        model: Name of the model at that provider.
        n_completion_tokens: Tokens that the model wrote, those of its reasoning included; 1 or more.
        latency_s: Seconds from request to answer; above 0.

    Returns:
        Joules above 0, ``modelled``, at the boundary ``remote_server``.

    Raises:
        MissingExtraError: If the extra is not installed.
        PowerError: If the request has no size (``remote_request``), the library does not know the model (``remote_unknown``), the model
            has less than a billion active parameters (``remote_too_small``), or the library is of another version
            (``remote_library``).
    """
    if n_completion_tokens < 1:
        raise _no_size("completion tokens", n_completion_tokens, "1 or more")
    if not (math.isfinite(latency_s) and latency_s > 0):
        raise _no_size("seconds to the answer", latency_s, "above 0")
    version, models, llm_impacts = _library()
    registered = models.find_model(provider, model)
    if registered is None:
        raise PowerError(
            f"remote model is {provider}/{model}, which EcoLogits {version} does not know; allowed: a provider and model of its list; "
            "its energy is told as unknown",
            code="remote_unknown",
        )
    shrink = _shrink(registered)
    _quiet()
    try:
        energy = llm_impacts(provider, model, n_completion_tokens, latency_s).usage.energy.value
        lo, hi = (energy, energy) if isinstance(energy, int | float) else (energy.min, energy.max)
    except (AttributeError, KeyError, TypeError) as error:
        raise _other_library(error) from error
    if not 0 < lo <= hi < math.inf:
        raise _other_library(ValueError(f"energy from {lo} to {hi} kWh"))
    return Figure(
        value=(lo + hi) / 2 * _J_PER_KWH,
        lo=lo * _J_PER_KWH * _BATCH_LO * shrink,
        hi=hi * _J_PER_KWH * _BATCH_HI,
        unit="J",
        method="modelled",
        source=f"EcoLogits {version}, {provider}/{model}",
        boundary="remote_server",
    )


def _library() -> tuple[str, Any, Any]:
    """Version, registry and formula of EcoLogits, which has no types."""
    try:
        from ecologits import __version__ as version
        from ecologits.model_repository import models
        from ecologits.tracers.utils import llm_impacts
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("ecologits."):
            raise _other_library(error) from error
        raise MissingExtraError("the energy of a remote language model", "remote-energy") from error
    except ImportError as error:
        raise _other_library(error) from error
    return version, models, llm_impacts


def _shrink(model: Model) -> float:
    """Factor of the low end, above 0 to 1, from the billions of parameters that work on one token."""
    parameters = model.architecture.parameters
    active = getattr(parameters, "active", parameters)
    billions = float(getattr(active, "min", active))
    if billions < _MIN_B:
        raise PowerError(
            f"remote model {model.name} has {billions:g} billion active parameters; allowed: {_MIN_B:g} or more, the formula of EcoLogits "
            f"was fit on {_FIT_MIN_B:g} and more; its energy is told as unknown",
            code="remote_too_small",
        )
    return min(1.0, billions / _FIT_MIN_B)


def _quiet() -> None:
    """Keep the library's remarks on its models off a console that nobody set up for logging; a configured log still gets them."""
    import logging

    logger = logging.getLogger("ecologits")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def _no_size(what: str, got: float, allowed: str) -> PowerError:
    return PowerError(f"remote request: {what} are {got}; allowed: {allowed}; its energy is told as unknown", code="remote_request")


def _other_library(error: Exception) -> PowerError:
    return PowerError(
        f"the installed EcoLogits does not answer as 0.11 does ({error}); pip install 'ragwatt[remote-energy]' brings one that does; "
        "the energy is told as unknown",
        code="remote_library",
    )
