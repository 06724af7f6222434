from __future__ import annotations

import importlib.util
import subprocess
import sys
from itertools import pairwise

import pytest

from rag.errors import MissingExtraError, PowerError
from rag.power.remote import remote_energy, unknown_remote

INSTALLED = importlib.util.find_spec("ecologits") is not None
needs_library = pytest.mark.skipif(not INSTALLED, reason="the extra [remote-energy] is not installed")
# Any way to the network ends the process, so that no handler can hide it.
OFFLINE = """
import os, sys

def no_network(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        os._exit(97)

sys.addaudithook(no_network)
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def error_code(provider: str, model: str, n_completion_tokens: int = 100, latency_s: float = 2.0) -> str:
    with pytest.raises(PowerError) as caught:
        remote_energy(provider, model, n_completion_tokens, latency_s)
    assert "\n" not in str(caught.value)
    return caught.value.code


def test_unknown_energy_has_a_name() -> None:
    assert unknown_remote() == "remote_energy"


def test_import_loads_no_library() -> None:
    done = run("import sys, rag.power.remote; print([name for name in sys.modules if name.startswith(('ecologits', 'pydantic'))])")
    assert (done.stdout.strip(), done.returncode) == ("[]", 0)


@pytest.mark.skipif(INSTALLED, reason="the extra [remote-energy] is installed")
def test_missing_extra_is_named() -> None:
    with pytest.raises(MissingExtraError, match=r"\[remote-energy\]"):
        remote_energy("openai", "gpt-4o", 100, 2.0)


@pytest.mark.parametrize("n_completion_tokens", [0, -1])
def test_answer_without_tokens_has_no_energy_rather_than_none(n_completion_tokens: int) -> None:
    assert error_code("openai", "gpt-4o", n_completion_tokens) == "remote_request"


@pytest.mark.parametrize("latency_s", [0.0, -1.0, float("nan"), float("inf")])
def test_answer_without_time_has_no_energy_rather_than_none(latency_s: float) -> None:
    assert error_code("openai", "gpt-4o", latency_s=latency_s) == "remote_request"


@needs_library
def test_figure_is_modelled_and_says_by_whom() -> None:
    from ecologits import __version__

    figure = remote_energy("openai", "gpt-4o", 100, 2.0)
    assert (figure.unit, figure.method, figure.boundary) == ("J", "modelled", "remote_server")
    assert figure.source == f"EcoLogits {__version__}, openai/gpt-4o"


@needs_library
@pytest.mark.parametrize("model", ["openai/gpt-4o", "anthropic/claude-sonnet-4-5", "cohere/command-a-03-2025"])
def test_range_of_the_library_lies_in_ours(model: str) -> None:
    from ecologits.tracers.utils import llm_impacts

    provider, _, name = model.partition("/")
    usage = llm_impacts(provider, name, 200, 3.0).usage
    assert usage is not None
    kwh = usage.energy.value
    low, high = (kwh, kwh) if isinstance(kwh, float) else (kwh.min, kwh.max)
    figure = remote_energy(provider, name, 200, 3.0)
    assert 0 < figure.lo < low * 3.6e6 <= figure.value <= high * 3.6e6 < figure.hi


@needs_library
def test_more_tokens_take_more_joules() -> None:
    values = [remote_energy("openai", "gpt-4o", n_tokens, 60.0).value for n_tokens in (1, 10, 100, 1000)]
    assert all(less < more for less, more in pairwise(values))


@needs_library
def test_every_model_of_the_library_has_joules_or_is_too_small() -> None:
    from ecologits.model_repository import models

    known = [(model.provider.value, model.name) for model in models.list_models()]
    assert len(known) > 100
    refused: dict[str, str] = {}
    for provider, name in known:
        try:
            figure = remote_energy(provider, name, 50, 1.0)
        except PowerError as error:
            refused[name] = error.code
        else:
            assert 0 < figure.lo < figure.value < figure.hi, name
    assert set(refused.values()) == {"remote_too_small"}
    assert len(refused) < 10


@needs_library
def test_low_end_of_a_model_below_the_fit_is_wider() -> None:
    small = remote_energy("mistralai", "ministral-3b-latest", 100, 2.0)
    large = remote_energy("mistralai", "mistral-small-latest", 100, 2.0)
    # 3.32 of 7 billion parameters
    assert small.lo / small.value == pytest.approx(large.lo / large.value * 3.32 / 7)
    assert small.hi / small.value == pytest.approx(large.hi / large.value)


@needs_library
def test_model_below_a_billion_parameters_is_refused() -> None:
    assert error_code("huggingface_hub", "meta-llama/Prompt-Guard-86M") == "remote_too_small"


@needs_library
@pytest.mark.parametrize(("provider", "model"), [("openai", "no-such-model"), ("nobody", "gpt-4o"), ("", "")])
def test_unknown_model_is_refused(provider: str, model: str) -> None:
    assert error_code(provider, model) == "remote_unknown"


@needs_library
def test_figure_needs_no_network() -> None:
    done = run(
        f"{OFFLINE}\nfrom rag.power.remote import remote_energy\nprint(remote_energy('openai', 'gpt-4o', 100, 2.0).value > 0)"
    )
    assert (done.returncode, done.stdout.strip()) == (0, "True")


def test_guard_against_the_network_fires() -> None:
    assert (
        run(f"{OFFLINE}\nimport socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))").returncode
        == 97
    )


@needs_library
def test_library_says_nothing_on_the_console() -> None:
    done = run("from rag.power.remote import remote_energy\nremote_energy('openai', 'gpt-4o', 100, 2.0)")
    assert (done.stdout, done.stderr) == ("", "")
