"""What every language model must hold, run on each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from rag.errors import ModelError
from rag.generate.chat_http import ChatHttp
from rag.generate.gguf import Gguf
from rag.generate.model import LanguageModel, Limits, Message, Prompt
from rag.models.gguf import find_gguf
from tests.llama_server import running_llama


def opened(gguf: Path, threads: int) -> AbstractContextManager[LanguageModel]:
    """The model in this process."""
    return closing(Gguf(find_gguf(str(gguf), gguf.parent), window=1024, threads=threads))


@contextmanager
def served(gguf: Path) -> Iterator[LanguageModel]:
    """The model behind llama.cpp's own server."""
    with running_llama(gguf) as settings:
        yield ChatHttp(settings)


# How each is opened, on the same small model.
OPENERS: dict[str, Callable[[Path], AbstractContextManager[LanguageModel]]] = {
    "gguf": lambda path: opened(path, threads=1),
    "gguf-2-threads": lambda path: opened(path, threads=2),
    "http": served,
}
FRANCE = Prompt("test", text="The capital of France is", stop=("\n",))
GREETING = Prompt("test", messages=(Message("system", "Be brief."), Message("user", "Say hello.")))
# Continued for ever by a small model.
ENDLESS = Prompt("test", text="one two three one two three one two three one two")
PATIENT = Limits(max_tokens=16, timeout_s=300.0)
ODD_TEXTS = [
    "x",
    "naïve café — “quotes” … Ünïcödé 你好，世界 مرحبا \U0001f468‍\U0001f469‍\U0001f467 a\u0301",
    "lone surrogates \ud800 and \udfff",
    "NUL \x00 and \x07 bell, \ufffd replacement, \u200b zero width, \t tab",
    "control tokens <|im_start|>system <|im_end|> <|endoftext|>",
    'quotes " and \\ back {"json": [1, 2]} {{ template }} {% raw %}',
]


@pytest.fixture(scope="module", params=OPENERS)
def model(request: pytest.FixtureRequest, gguf_path: Path) -> Iterator[LanguageModel]:
    with OPENERS[request.param](gguf_path) as found:
        yield found


def chat(text: str) -> Prompt:
    return Prompt("test", messages=(Message("user", text),))


def test_name_stays_the_same(model: LanguageModel) -> None:
    assert model.name
    assert model.name == model.name.strip()


def test_remote_model_has_no_lane(model: LanguageModel) -> None:
    assert not (model.is_remote and model.lane)


def test_text_is_continued(model: LanguageModel) -> None:
    completion = model.complete(FRANCE, PATIENT)
    assert completion.text.strip() == "Paris."
    assert completion.ending == "stop"


def test_chat_is_answered(model: LanguageModel) -> None:
    completion = model.complete(GREETING, Limits(64, PATIENT.timeout_s))
    assert "hello" in completion.text.lower()
    assert completion.ending == "stop"


def test_stop_string_is_left_out(model: LanguageModel) -> None:
    completion = model.complete(Prompt("test", text=FRANCE.text, stop=("xyz", "is")), PATIENT)
    assert completion.text.strip() == "Par"


def test_cap_cuts_and_is_told(model: LanguageModel) -> None:
    completion = model.complete(ENDLESS, Limits(5, PATIENT.timeout_s))
    assert (completion.n_completion, completion.ending) == (5, "length")


@pytest.mark.parametrize("prompt", [FRANCE, GREETING])
def test_same_prompt_gives_the_same_answer(model: LanguageModel, prompt: Prompt) -> None:
    assert model.complete(prompt, PATIENT).text == model.complete(prompt, PATIENT).text


@pytest.mark.parametrize("text", ODD_TEXTS)
@pytest.mark.parametrize("as_prompt", [chat, lambda text: Prompt("test", text=text)], ids=["chat", "text"])
def test_any_text_is_counted_and_read(model: LanguageModel, text: str, as_prompt: Callable[[str], Prompt]) -> None:
    completion = model.complete(as_prompt(text), Limits(1, PATIENT.timeout_s))
    assert 0 < completion.n_prompt <= model.count(as_prompt(text))
    assert completion.n_completion == 1


def test_a_prompt_that_begins_alike_is_not_read_again(model: LanguageModel) -> None:
    header = "The first paragraph stays the same for every question. " * 3
    model.complete(Prompt("test", text=f"{header} What?"), Limits(1, PATIENT.timeout_s))
    completion = model.complete(Prompt("test", text=f"{header} Who?"), Limits(1, PATIENT.timeout_s))
    assert 20 < completion.n_cached < completion.n_prompt


@pytest.mark.parametrize("as_prompt", [chat, lambda text: Prompt("test", text=text)], ids=["chat", "text"])
def test_prompt_longer_than_the_window_is_an_error(model: LanguageModel, as_prompt: Callable[[str], Prompt]) -> None:
    prompt = as_prompt("word " * (model.window + 1))
    assert model.count(prompt) > model.window
    with pytest.raises(ModelError) as caught:
        model.complete(prompt, PATIENT)
    assert caught.value.code == "too_long"


def test_time_that_runs_out_is_an_error_and_the_next_answer_is_right(model: LanguageModel) -> None:
    with pytest.raises(ModelError) as caught:
        model.complete(ENDLESS, Limits(900, 0.2))
    assert caught.value.code == "timeout"
    assert model.complete(FRANCE, PATIENT).text.strip() == "Paris."


def test_threads_get_their_own_answers(model: LanguageModel) -> None:
    prompts = [Prompt("test", text=f"The capital of {place} is", stop=("\n", ".")) for place in ("France", "Spain", "Italy")]
    with ThreadPoolExecutor(3) as pool:
        texts = [found.text.strip() for found in pool.map(lambda prompt: model.complete(prompt, PATIENT), prompts)]
    assert texts == ["Paris", "Madrid", "Rome"]


def test_cpu_time_is_that_of_the_caller_and_of_the_lane(model: LanguageModel) -> None:
    if model.is_remote:
        pytest.skip("the work is done elsewhere")
    model.complete(FRANCE, PATIENT)  # loads
    process, told = time.process_time_ns(), _told_ns(model)
    model.complete(Prompt("test", text="A sentence with new words about a harbour. " * 20), PATIENT)
    model.count(chat("word " * 100))
    assert _told_ns(model) - told == pytest.approx(time.process_time_ns() - process, rel=0.1)


def test_a_second_close_is_fine_and_the_next_question_is_answered(model: LanguageModel) -> None:
    model.complete(FRANCE, PATIENT)
    model.close()
    model.close()
    assert model.complete(FRANCE, PATIENT).text.strip() == "Paris."


def _told_ns(model: LanguageModel) -> int:
    return time.thread_time_ns() + (model.lane.charged_ns() if model.lane else 0)
