"""`rag ask` with language models, conversations and the cache, from outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag.__main__ import main
from tests.chat_server import API_KEY, ChatServer, Exchange, running_server
from tests.command import Command

PAGES = {
    "pumps.md": "# Pumps\n\nThe pump starts at 5 bar because a valve opens then. Old pumps leak at 3 bar.",
    "garage.md": "# Garage\n\nThe garage is in the yard. The rent of the garage is 80 euros a month.",
}
QUESTION = "At what pressure does the pump start?"
WHY = "Why does the pump start at 5 bar?"


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("ask")
    for name, text in PAGES.items():
        (base / name).write_text(text)
    assert main(["ingest", str(base / "pumps.md"), str(base / "garage.md"), "--data-dir", str(base / "data")]) == 0
    return base / "data"


@pytest.fixture(autouse=True)
def _clean_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAG_ENERGY_POWERCAP_ROOT", str(tmp_path / "no-powercap"))
    monkeypatch.setenv("RAG_ANSWER_ABSTAIN_BELOW", "0.3")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def rag(collection: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(collection, capsys)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """A server, and settings that name it."""
    with running_server() as running:
        settings = running.settings()
        for name, value in {"KIND": "http", "URL": settings.url, "MODEL": settings.model, "API_KEY": API_KEY}.items():
            monkeypatch.setenv(f"RAG_LANGUAGE_MODEL_{name}", value)
        yield running


def says(server: ChatServer, text: str) -> None:
    """Let the next answer be this text."""

    def answer(exchange: Exchange) -> None:
        exchange.send_json(
            {
                "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 120, "completion_tokens": 12},
            }
        )

    server.next_answers.append(answer)


def test_generative_answer_is_cited_counted_and_tells_its_template(rag: Command, server: ChatServer) -> None:
    says(server, "The pump starts at 5 bar because a valve opens then [1].")
    found = rag("ask", QUESTION, "--mode", "generative", "--json").value
    assert found["answer"] == "The pump starts at 5 bar because a valve opens then. [1]"
    assert found["generator"].startswith("http:")
    assert found["template"].startswith("chat@1#")
    assert found["citations"][0]["quote"].startswith("The pump starts at 5 bar")
    assert found["measurement"]["tokens"]["prompt"] == 120
    assert "remote_energy" in found["measurement"]["not_modelled"]


def test_people_see_the_steps_of_a_cascade(rag: Command, server: ChatServer) -> None:
    says(server, "The pump starts at 5 bar because a valve opens then [1].")
    outcome = rag("ask", WHY, "--mode", "auto")
    assert "step: extractive answered" in outcome.out
    assert "step: http:" in outcome.out
    assert "why or how" in outcome.out


def test_auto_asks_no_model_for_a_fact(rag: Command, server: ChatServer) -> None:
    found = rag("ask", QUESTION, "--mode", "auto", "--json").value
    assert found["generator"] == "extractive"
    assert not server.requests


def test_auto_without_a_model_is_extraction(rag: Command) -> None:
    found = rag("ask", WHY, "--mode", "auto", "--json").value
    assert (found["generator"], found["steps"][0]["reason"]) == ("extractive", "no language model is configured")


def test_generative_with_a_server_that_is_down_is_an_error_and_auto_degrades(rag: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"KIND": "http", "URL": "http://127.0.0.1:9/v1", "MODEL": "m", "TIMEOUT_S": "3"}.items():
        monkeypatch.setenv(f"RAG_LANGUAGE_MODEL_{name}", value)
    status, code, message = rag.refused("ask", WHY, "--mode", "generative")
    assert (status, code) == (1, "language_model_unavailable")
    assert "127.0.0.1:9" in message
    found = rag("ask", WHY, "--mode", "auto", "--json").value
    assert found["generator"] == "extractive"
    assert found["steps"][1]["outcome"] == "failed"


def test_key_is_sent_and_never_shown(rag: Command, server: ChatServer) -> None:
    server.next_answers.append(lambda exchange: exchange.send_json({"error": {"message": f"bad key {API_KEY}"}}, 401))
    outcome = rag("ask", QUESTION, "--mode", "generative")
    assert outcome.status == 1
    assert server.requests[0].authorization == f"Bearer {API_KEY}"
    assert API_KEY not in outcome.out + outcome.err


def test_key_that_the_server_writes_into_its_answer_is_masked(
    rag: Command, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_ANSWER_UNVERIFIED", "flag")
    says(server, f"The pump starts at 5 bar because a valve opens then [1]. The key is {API_KEY}.")
    outcome = rag("ask", QUESTION, "--mode", "generative", "--json")
    assert "5 bar" in outcome.out
    assert API_KEY not in outcome.out + outcome.err


def test_question_of_a_batch_whose_model_fails_has_its_own_line(rag: Command, server: ChatServer, tmp_path: Path) -> None:
    server.next_answers.append(lambda exchange: exchange.send_json({"error": {"message": "no"}}, 400))
    says(server, "The pump starts at 5 bar because a valve opens then [1].")
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps({"_id": n, "text": QUESTION}) for n in (1, 2)))
    outcome = rag("ask", "--batch", tmp_path / "q.jsonl", "--mode", "generative")
    assert outcome.status == 3
    assert [("error" in line, line["_id"]) for line in outcome.lines] == [(True, 1), (False, 2)]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--mode", "generative"), "no_model"),
        (("--max-joules", "inf"), "usage"),
        (("--generator", "gguf"), "no_model"),
        (("--mode", "generative", "--generator", "extractive"), "usage"),
        (("--mode", "eco", "--generator", "http"), "usage"),
        (("--max-joules", "-1"), "usage"),
        (("--max-joules", "nan"), "usage"),
        (("--max-prompt-tokens", "-5"), "usage"),
        (("--history", "gone.jsonl"), "history"),
    ],
)
def test_options_that_cannot_be_met_are_refused(rag: Command, arguments: tuple[str, ...], code: str) -> None:
    assert rag.refused("ask", QUESTION, *arguments)[:2] == (2, code)


def test_conversation_makes_a_follow_up_stand_alone(rag: Command, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Where is the garage?"}, {"role": "assistant", "content": "In the yard."}]
    (tmp_path / "history.jsonl").write_text("\n".join(map(json.dumps, turns)))
    found = rag("ask", "And its rent?", "--history", tmp_path / "history.jsonl", "--json").value
    assert "garage" in found["question"]
    assert "80 euros" in found["answer"]
    assert "searched for: " in rag("ask", "And its rent?", "--history", tmp_path / "history.jsonl").out


@pytest.mark.parametrize(
    "line", ["no json", "[]", '{"role": "system", "content": "x"}', '{"role": "user"}', '{"role": "user", "content": 1}']
)
def test_history_that_is_none_is_refused_with_its_line(rag: Command, tmp_path: Path, line: str) -> None:
    (tmp_path / "history.jsonl").write_text('{"role": "user", "content": "Hello"}\n' + line)
    status, code, message = rag.refused("ask", QUESTION, "--history", tmp_path / "history.jsonl")
    assert (status, code) == (2, "history")
    assert "history.jsonl:2" in message


def test_cache_serves_the_next_process_and_tells_what_it_saved(rag: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_CACHE_MODE", "semantic")
    first = rag("ask", QUESTION, "--json").value
    second = rag("ask", QUESTION, "--json").value
    reworded = rag("ask", "Please tell me, at what pressure does the pump start?", "--json").value
    assert [found["measurement"]["cache"] for found in (first, second, reworded)] == ["miss", "hit", "hit"]
    assert first["answer"] == second["answer"] == reworded["answer"]
    assert "from the cache, saved" in rag("ask", QUESTION).out


def test_real_model_in_this_process_answers_within_its_evidence(
    rag: Command, gguf_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = rag("models", "add", gguf_path, "--name", "small", "--json")
    assert added.status == 0
    monkeypatch.setenv("RAG_LANGUAGE_MODEL_KIND", "gguf")
    monkeypatch.setenv("RAG_LANGUAGE_MODEL_MODEL", "small")
    found = rag("ask", QUESTION, "--mode", "generative", "--json").value
    assert found["template"].startswith("few-shot@1#")
    assert found["measurement"]["tokens"]["prompt"] > 0
    assert found["abstained"] or all(citation["quote"] in PAGES["pumps.md"] + PAGES["garage.md"] for citation in found["citations"])
    model = next(stage for stage in found["measurement"]["stages"] if stage["name"] == "model")
    assert model["cpu_s"] > 0.1


def test_cached_answer_of_one_server_is_none_of_another_with_the_same_model(
    rag: Command, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_CACHE_MODE", "exact")
    question = "What does the garage cost each month?"
    says(server, "The rent of the garage is 80 euros a month [1].")
    ask = ("ask", question, "--mode", "generative", "--json")
    assert [rag(*ask).value["measurement"]["cache"] for _ in range(2)] == ["miss", "hit"]
    with running_server() as other:
        monkeypatch.setenv("RAG_LANGUAGE_MODEL_URL", other.settings().url)
        says(other, "The rent of the garage is 80 euros a month [1].")
        assert rag(*ask).value["measurement"]["cache"] == "miss"
    assert len(other.requests) == 1
