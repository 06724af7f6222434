from __future__ import annotations

import importlib.util
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rag.errors import ConfigError, ModelError
from rag.generate.chat_http import ChatHttp
from rag.generate.model import Completion, Limits, Message, Prompt
from rag.settings import LanguageModelSettings
from tests.chat_server import API_KEY, ChatServer, Exchange, Handler, running_server
from tests.llama_server import running_llama

CHAT = Prompt("t@1", messages=(Message("system", "Be short."), Message("user", "What is the answer?")))
PLAIN = Prompt("t@1", text="The answer is", stop=("\n",))
LIMITS = Limits(max_tokens=16, timeout_s=10.0)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with running_server() as running:
        yield running


class Pauses(list[float]):
    """Takes the place of `time.sleep` and notes the pauses instead of making them."""

    def __call__(self, pause_s: float) -> None:
        self.append(pause_s)


def ask(server: ChatServer, prompt: Prompt = CHAT, limits: Limits = LIMITS, pauses: Pauses | None = None) -> Completion:
    return ChatHttp(server.settings(api_key=API_KEY), Pauses() if pauses is None else pauses).complete(prompt, limits)


def failure(server: ChatServer, answer: Handler, limits: Limits = LIMITS) -> ModelError:
    """The error of a request that is answered like this."""
    server.next_answers.append(answer)
    with pytest.raises(ModelError) as raised:
        ask(server, limits=limits)
    assert API_KEY not in str(raised.value)
    assert "\n" not in str(raised.value)
    return raised.value


def refuse(status: int, said: object = "no", **headers: str) -> Handler:
    return lambda exchange: exchange.send_json(said, status, **headers)


def body(value: object) -> Handler:
    return lambda exchange: exchange.send_json(value)


def raw(content: bytes) -> Handler:
    return lambda exchange: exchange.send_body(content)


def stream(*events: object, done: bool = True) -> Handler:
    def send(exchange: Exchange) -> None:
        exchange.begin_stream()
        for event in events:
            exchange.send_event(event)
        if done:
            exchange.send_piece(b"data: [DONE]\n\n")
        exchange.send_piece(b"")

    return send


def hang_up(exchange: Exchange) -> None:
    exchange.connection.shutdown(socket.SHUT_RDWR)
    exchange.close_connection = True


def word(text: object, finish: object = None) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


def test_chat_is_sent_with_its_limits_and_the_key(server: ChatServer) -> None:
    ask(server, limits=Limits(5, 10.0))
    asked = server.requests[0]
    assert asked.path == "/v1/chat/completions"
    assert asked.authorization == f"Bearer {API_KEY}"
    assert asked.body == {
        "model": "any",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "What is the answer?"}],
        "temperature": 0,
        "max_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_plain_text_is_sent_to_be_continued(server: ChatServer) -> None:
    assert ask(server, PLAIN).text == "The answer is 42."
    asked = server.requests[0]
    assert asked.path == "/v1/completions"
    assert (asked.body["prompt"], asked.body["stop"]) == ("The answer is", ["\n"])
    assert "messages" not in asked.body


@pytest.mark.parametrize("ending", ["/chat/completions", "/completions", "/"])
def test_address_may_end_with_the_endpoint(server: ChatServer, ending: str) -> None:
    settings = server.settings()
    ChatHttp(replace(settings, url=settings.url + ending)).complete(PLAIN, LIMITS)
    assert server.requests[0].path == "/v1/completions"


def test_lone_surrogate_is_sent_as_a_question_mark(server: ChatServer) -> None:
    ask(server, Prompt("t@1", text="lone \ud800"))
    assert server.requests[0].body["prompt"] == "lone ?"


def test_stream_is_joined_and_its_usage_told(server: ChatServer) -> None:
    assert ask(server) == Completion("The answer is 42.", n_prompt=7, n_completion=5, n_cached=0, ending="stop")


def test_stream_without_its_mark_of_the_end_is_whole_when_it_says_why_it_ended(server: ChatServer) -> None:
    server.next_answers.append(stream(word("Yes"), word("", "length"), done=False))
    answer = ask(server)
    assert (answer.text, answer.ending) == ("Yes", "length")


def test_stream_with_its_mark_of_the_end_is_whole(server: ChatServer) -> None:
    server.next_answers.append(stream(word("Yes")))
    answer = ask(server)
    assert (answer.text, answer.ending) == ("Yes", "stop")


def test_model_that_ends_before_its_first_word_wrote_nothing(server: ChatServer) -> None:
    server.next_answers.append(stream(word(None), {"choices": [{"delta": {}, "finish_reason": "length"}]}))
    answer = ask(server)
    assert (answer.text, answer.ending) == ("", "length")


def test_comments_and_names_of_events_are_skipped(server: ChatServer) -> None:
    lines = b': ping\r\n\r\nevent: message\r\ndata:{"choices":[{"text":"Yes","finish_reason":"stop"}]}\r\n\r\ndata: [DONE]\r\n\r\n'
    server.next_answers.append(raw(lines))
    assert ask(server, PLAIN).text == "Yes"


def test_character_cut_in_two_halves_is_joined(server: ChatServer) -> None:
    server.next_answers.append(stream(word("\ud83d"), word("\ude00", "stop")))
    assert ask(server).text == "\U0001f600"


@pytest.mark.parametrize(
    ("prompt", "choice"),
    [(CHAT, {"message": {"content": "Yes"}, "finish_reason": "length"}), (PLAIN, {"text": "Yes", "finish_reason": "length"})],
)
def test_server_that_does_not_stream_is_understood(server: ChatServer, prompt: Prompt, choice: object) -> None:
    server.next_answers.append(body({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}))
    assert ask(server, prompt) == Completion("Yes", 3, 1, 0, "length")


def test_cached_tokens_are_told_by_usage(server: ChatServer) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 6}}
    server.next_answers.append(stream(word("Yes", "stop"), {"choices": [], "usage": usage}))
    assert ask(server).n_cached == 6


def test_cached_tokens_are_told_by_timings(server: ChatServer) -> None:
    server.next_answers.append(stream(word("Yes", "stop") | {"timings": {"cache_n": 4}}))
    assert ask(server).n_cached == 4


@pytest.mark.parametrize("usage", [None, [], {}, {"prompt_tokens": -1, "completion_tokens": "many"}])
def test_missing_usage_is_estimated_from_above(server: ChatServer, usage: object) -> None:
    server.next_answers.append(stream(word("Forty two.", "stop") | {"usage": usage}))
    answer = ask(server)
    assert answer.n_prompt == ChatHttp(server.settings()).count(CHAT)
    assert 3 <= answer.n_completion <= 8


def test_count_grows_with_each_message(server: ChatServer) -> None:
    model = ChatHttp(server.settings())
    longer = replace(CHAT, messages=(*CHAT.messages, Message("assistant", "")))
    assert model.count(longer) > model.count(CHAT)


@pytest.mark.parametrize(
    "answer",
    [
        raw(b"hello"),
        raw(b""),
        raw(b"<html><body>Welcome</body></html>"),
        raw(b'{"choices": [{"mess'),
        raw(b"[" * 100_000),
        raw(b"data: []\n\n"),
        raw(b'data: {"choi\n\n'),
        body([]),
        body({}),
        body({"choices": []}),
        body({"choices": [{"message": {"content": None}}]}),
        body({"choices": [{"text": None}]}),
        body({"choices": [{"message": {"content": ["Yes"]}}]}),
        body({"choices": [{"message": "Yes"}]}),
        body({"choices": [7]}),
        body({"choices": 7}),
        stream(),
        stream({"choices": []}),
        stream(word(5, "stop")),
        stream(word("I must n", "content_filter")),
        stream(word(f"{API_KEY} ", f"{API_KEY}")),
    ],
)
def test_answer_that_is_none_is_an_error_and_not_asked_for_again(server: ChatServer, answer: Handler) -> None:
    error = failure(server, answer)
    assert error.code == "bad_answer"
    assert "language_model.url" in str(error)
    assert len(server.requests) == 1


def test_page_that_came_instead_is_quoted(server: ChatServer) -> None:
    assert "Welcome" in str(failure(server, raw(b"<html>Welcome</html>")))


def test_stream_that_ends_without_an_end_was_cut(server: ChatServer) -> None:
    error = failure(server, stream(word("The answer"), done=False))
    assert error.code == "cut_off"


def test_connection_lost_within_a_stream_is_an_error_and_not_asked_again(server: ChatServer) -> None:
    def cut(exchange: Exchange) -> None:
        exchange.begin_stream()
        exchange.send_event(word("The answer"))
        exchange.send_piece(b'data: {"choices": [{"del')
        hang_up(exchange)

    error = failure(server, cut)
    assert error.code == "cut_off"
    assert len(server.requests) == 1


def test_no_cut_of_a_stream_passes_for_the_whole(server: ChatServer) -> None:
    events = (word("The "), word("answer"), word(None, "stop"))
    content = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    model = ChatHttp(server.settings(), Pauses())
    texts = set()
    for at in range(len(content)):
        # The end of the connection is the end of the body: nothing in HTTP tells that it was cut.
        def cut(exchange: Exchange, part: bytes = content[:at]) -> None:
            exchange.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + part)
            exchange.close_connection = True

        server.next_answers.append(cut)
        try:
            texts.add(model.complete(CHAT, LIMITS).text)
        except ModelError as error:
            texts.add(error.code)
    assert texts == {"bad_answer", "cut_off", "The answer"}


def test_single_body_cut_short_is_an_error(server: ChatServer) -> None:
    def cut(exchange: Exchange) -> None:
        exchange.send_body(b'{"choices": [', Content_Length="1000")
        exchange.close_connection = True

    assert failure(server, cut).code == "cut_off"


def test_stream_cut_behind_its_end_is_whole(server: ChatServer) -> None:
    def cut(exchange: Exchange) -> None:
        exchange.begin_stream()
        exchange.send_event(word("Yes", "stop"))
        hang_up(exchange)

    server.next_answers.append(cut)
    assert ask(server).text == "Yes"


def test_error_within_a_stream_is_an_error(server: ChatServer) -> None:
    error = failure(server, stream(word("The answer"), {"error": {"message": f"out of memory {API_KEY}"}}))
    assert error.code == "model_failed"
    assert "out of memory" in str(error)


def test_too_long_a_prompt_told_within_a_stream_is_known(server: ChatServer) -> None:
    assert failure(server, stream({"error": "the request exceeds the available context size"})).code == "too_long"


@pytest.mark.parametrize(
    ("status", "said", "code", "way_out"),
    [
        (401, {"error": f"bad key {API_KEY}"}, "unauthorised", "language_model.api_key"),
        (403, "no", "unauthorised", "language_model.api_key"),
        (404, {"error": "model not found"}, "model_unknown", "language_model.model, 'any'"),
        (400, {"error": {"code": "context_length_exceeded"}}, "too_long", "language_model.window"),
        (400, {"error": "This model's maximum context length is 4096 tokens"}, "too_long", "language_model.window"),
        (400, {"error": "unknown role"}, "http_400", "language_model.model"),
    ],
)
def test_final_refusal_says_what_to_check(server: ChatServer, status: int, said: object, code: str, way_out: str) -> None:
    error = failure(server, refuse(status, said))
    assert error.code == code
    assert way_out in str(error)
    assert len(server.requests) == 1


def test_key_at_the_end_of_a_quote_is_masked_whole(server: ChatServer) -> None:
    assert "sk-very" not in str(failure(server, refuse(401, "x" * 170 + API_KEY)))


def test_redirect_is_not_followed(server: ChatServer) -> None:
    with running_server() as elsewhere:
        error = failure(server, refuse(307, Location=f"http://127.0.0.1:{elsewhere.port}/v1/{API_KEY}"))
        assert "redirects are not followed" in str(error)
        assert elsewhere.requests == []


def test_page_of_a_gateway_is_tried_again(server: ChatServer) -> None:
    server.next_answers.append(lambda exchange: exchange.send_body(b"<html>Bad Gateway</html>", 502))
    pauses = Pauses()
    assert ask(server, pauses=pauses).text == "The answer is 42."
    assert pauses == [0.5]


def test_hanging_up_before_the_first_byte_is_tried_again(server: ChatServer) -> None:
    def begin_only(exchange: Exchange) -> None:
        exchange.begin_stream()
        hang_up(exchange)

    server.next_answers.extend([hang_up, begin_only])
    pauses = Pauses()
    assert ask(server, pauses=pauses).text == "The answer is 42."
    assert pauses == [0.5, 1.0]


def test_busy_server_is_given_the_pause_that_it_asks_for(server: ChatServer) -> None:
    server.next_answers.append(refuse(429, Retry_After="3"))
    pauses = Pauses()
    ask(server, pauses=pauses)
    assert pauses == [3.0]


def test_pause_beyond_the_time_limit_is_not_made(server: ChatServer) -> None:
    server.next_answers.append(refuse(429, Retry_After="10"))
    pauses = Pauses()
    with pytest.raises(ModelError, match="answered 429.*tried 1 times") as raised:
        ask(server, limits=Limits(16, 9.0), pauses=pauses)
    assert raised.value.code == "language_model_unavailable"
    assert pauses == []


def test_third_failure_is_the_last(server: ChatServer) -> None:
    server.next_answers.extend([refuse(503, "Loading model")] * 3)
    with pytest.raises(ModelError, match="Loading model.*tried 3 times"):
        ask(server)
    assert len(server.requests) == 3


def test_nobody_listening_is_an_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = ChatHttp(LanguageModelSettings("http", "any", f"http://127.0.0.1:{port}/v1"), Pauses())
    with pytest.raises(ModelError, match="not reachable.*tried 3 times") as raised:
        model.complete(CHAT, LIMITS)
    assert raised.value.code == "language_model_unavailable"


def test_server_that_never_accepts_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        with pytest.raises(ModelError, match=r"did not answer within 0\.2 s") as raised:
            ChatHttp(LanguageModelSettings("http", "any", url), Pauses()).complete(CHAT, Limits(16, 0.2))
    assert raised.value.code == "timeout"


def test_slow_pieces_are_a_timeout_and_no_half_answer(server: ChatServer) -> None:
    def dawdle(exchange: Exchange) -> None:
        exchange.begin_stream()
        for _ in range(600):
            exchange.send_event(word("word "))
            time.sleep(0.05)

    began = time.monotonic()
    assert failure(server, dawdle, Limits(16, 0.2)).code == "timeout"
    assert time.monotonic() - began < 20


def test_slow_headers_are_a_timeout(server: ChatServer) -> None:
    def dawdle(exchange: Exchange) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 600:
            exchange.wfile.write(bytes([byte]))
            time.sleep(0.05)

    began = time.monotonic()
    assert failure(server, dawdle, Limits(16, 0.2)).code == "timeout"
    assert time.monotonic() - began < 20


def test_time_of_the_tries_is_counted_together(server: ChatServer) -> None:
    def fail_late(exchange: Exchange) -> None:
        time.sleep(0.15)
        exchange.send_json("busy", 503)

    server.next_answers.extend([fail_late] * 3)
    with pytest.raises(ModelError):
        ChatHttp(server.settings(), Pauses()).complete(CHAT, Limits(16, 0.6))
    assert len(server.requests) < 3


def test_time_limit_of_the_settings_counts_too(server: ChatServer) -> None:
    server.next_answers.append(lambda _exchange: time.sleep(0.5))
    with pytest.raises(ModelError, match=r"within 0\.1 s"):
        ChatHttp(server.settings(timeout_s=0.1), Pauses()).complete(CHAT, LIMITS)


def test_endless_answer_is_an_error(server: ChatServer) -> None:
    def pour(exchange: Exchange) -> None:
        exchange.begin_stream()
        for _ in range(65):
            exchange.send_piece(b"x" * 1_000_000)

    error = failure(server, pour, Limits(16, 60.0))
    assert error.code == "bad_answer"
    assert "64,000,000 bytes" in str(error)


def test_key_is_in_no_repr(server: ChatServer) -> None:
    settings = server.settings(api_key=API_KEY)
    assert API_KEY not in repr(settings)
    assert API_KEY not in repr(ChatHttp(settings))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": ""}, "language_model.url"),
        ({"url": "http://user:pass@127.0.0.1/v1"}, "api_key instead"),
        ({"model": ""}, "language_model.model is empty"),
        ({"api_key": API_KEY + "\n"}, "copy it again"),
        ({"pid": -1}, "language_model.pid is -1"),
        ({"pid": 2**22 + 1}, "no such process"),
        ({"pid": 2**40}, "no such process"),
        ({"pid": 1, "url": "https://example.org/v1"}, "names example.org"),
    ],
)
def test_unusable_setting_is_a_config_error(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        ChatHttp(replace(LanguageModelSettings("http", "any", "http://127.0.0.1:9/v1"), **change))  # type: ignore[arg-type]  # fields by name
    assert API_KEY not in str(raised.value)


def test_work_of_a_server_counts_as_remote_unless_its_process_is_known(server: ChatServer) -> None:
    unknown, known = ChatHttp(server.settings()), ChatHttp(server.settings(pid=os.getpid()))
    assert (unknown.is_remote, unknown.cpu) == (True, None)
    assert not known.is_remote
    assert known.cpu
    assert known.cpu() > 0


def test_messages_name_the_section_of_the_settings(server: ChatServer) -> None:
    server.next_answers.append(raw(b"hello"))
    with pytest.raises(ModelError, match="larger_model.url ends"):
        ChatHttp(server.settings(), section="larger_model").complete(CHAT, LIMITS)


def test_energy_of_a_known_provider_is_modelled(server: ChatServer) -> None:
    pytest.importorskip("ecologits")
    model = ChatHttp(replace(server.settings(), provider="openai", model="gpt-4o-mini"))
    figure = model.energy(Completion("Yes.", 10, 20, 0, "stop"), 0.5)
    assert figure is not None
    assert figure.value > 0


@pytest.mark.parametrize("change", [{}, {"provider": "nobody"}, {"provider": "openai", "pid": os.getpid()}])
def test_energy_that_is_not_known_or_counted_here_is_none(server: ChatServer, change: dict[str, object]) -> None:
    settings = replace(server.settings(), model="gpt-4o-mini", **change)  # type: ignore[arg-type]  # fields by name
    assert ChatHttp(settings).energy(Completion("Yes.", 10, 20, 0, "stop"), 0.5) is None


@pytest.fixture(scope="module")
def llama_settings(gguf_path: Path) -> Iterator[LanguageModelSettings]:
    """llama.cpp's own server over loopback, with the clock of its process."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("the extra [local] is not installed")
    with running_llama(gguf_path, with_pid=True) as settings:
        yield settings


@pytest.fixture(scope="module")
def llama(llama_settings: LanguageModelSettings) -> ChatHttp:
    return ChatHttp(llama_settings)


def test_llama_server_continues_a_text(llama: ChatHttp) -> None:
    answer = llama.complete(Prompt("t@1", text="The capital of France is", stop=("\n",)), Limits(8, 60.0))
    assert answer.text.startswith(" Paris")
    assert "\n" not in answer.text
    assert answer.ending == "stop"


def test_llama_server_answers_a_chat_up_to_the_cap(llama: ChatHttp) -> None:
    answer = llama.complete(Prompt("t@1", messages=(Message("user", "Tell me a long story."),)), Limits(6, 60.0))
    assert answer.text
    assert (answer.n_completion, answer.ending) == (6, "length")


def test_llama_server_tells_what_it_had_cached(llama: ChatHttp) -> None:
    prompt = Prompt("t@1", text="One, two, three, four, five, six, seven,")
    first, again = (llama.complete(prompt, Limits(1, 60.0)) for _ in range(2))
    assert again.n_cached > first.n_cached
    assert again.n_prompt == first.n_prompt > again.n_cached


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt("t@1", text="x"),
        Prompt("t@1", messages=(Message("user", "Hi"),)),
        Prompt("t@1", messages=(Message("system", "Be short."), Message("user", "日本語 naïve 12345 \U0001f600"))),
        Prompt("t@1", messages=tuple(Message("user" if i % 2 == 0 else "assistant", "x") for i in range(7))),
    ],
)
def test_llama_server_counts_no_more_tokens_than_we_do(llama: ChatHttp, prompt: Prompt) -> None:
    assert llama.complete(prompt, Limits(1, 60.0)).n_prompt <= llama.count(prompt)


def test_llama_server_refuses_too_long_a_prompt(llama: ChatHttp) -> None:
    with pytest.raises(ModelError, match="language_model.window") as raised:
        llama.complete(Prompt("t@1", text="word " * 2 * llama.window), Limits(1, 60.0))
    assert raised.value.code == "too_long"


def test_llama_server_refuses_another_key(llama_settings: LanguageModelSettings) -> None:
    stranger = ChatHttp(replace(llama_settings, api_key="sk-other"), Pauses())
    with pytest.raises(ModelError, match="language_model.api_key") as raised:
        stranger.complete(PLAIN, LIMITS)
    assert raised.value.code == "unauthorised"


def test_llama_server_is_left_in_good_health_by_a_timeout(llama: ChatHttp) -> None:
    with pytest.raises(ModelError) as raised:
        llama.complete(Prompt("t@1", text="Count: 1, 2, 3, 4,"), Limits(900, 0.3))
    assert raised.value.code == "timeout"
    assert llama.complete(PLAIN, Limits(1, 60.0)).n_completion == 1


def test_cpu_time_of_a_local_llama_server_is_counted(llama: ChatHttp) -> None:
    assert llama.cpu
    before = llama.cpu()
    llama.complete(Prompt("t@1", text="Once upon a time"), Limits(4, 60.0))
    assert llama.cpu() > before
