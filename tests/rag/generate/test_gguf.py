from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import ConfigError, MissingExtraError, ModelError
from rag.generate import open_generator
from rag.generate.gguf import Gguf, _exchange, checked_copy
from rag.generate.model import Completion, Ending, Limits, Message, Prompt
from rag.meter import Meter
from rag.models.gguf import GgufModel, find_gguf
from rag.settings import AnswerSettings, LanguageModelSettings, Settings
from tests.rag.models.test_gguf_header import gguf

needs_runtime = pytest.mark.usefixtures("llama_runtime")
LIMITS = Limits(max_tokens=32, timeout_s=300.0)
FRANCE = Prompt("test", text="The capital of France is", stop=("\n",))
SOURCE = "The Eiffel Tower stands in Paris. It was finished in 1889, and is 330 m tall; the naïve “café” (你好) doesn't close."


def opened(path: Path, window: int = 2048, threads: int = 1) -> Gguf:
    return Gguf(find_gguf(str(path), path.parent), window=window, threads=threads)


@pytest.fixture
def small(tmp_path: Path) -> GgufModel:
    """A model whose header is whole and whose weights nothing can run."""
    path = tmp_path / "small.gguf"
    path.write_bytes(gguf())
    return find_gguf(str(path), tmp_path)


@pytest.fixture(scope="module")
def model(gguf_path: Path) -> Iterator[Gguf]:
    with closing(opened(gguf_path)) as found:
        yield found


def question(text: str, source: str = SOURCE) -> Prompt:
    return Prompt("test", text=f"Text: {source}\nQuestion: {text}\nAnswer:", stop=("\n",))


def run(code: str, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, where no OpenMP is loaded, with the model's path as its argument."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    return subprocess.run(
        [sys.executable, "-P", "-c", code, str(path)],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


ANSWER = """
import sys
from pathlib import Path
from rag.errors import RagError
from rag.generate.gguf import Gguf
from rag.generate.model import Limits, Prompt
from rag.models.gguf import find_gguf
model = Gguf(find_gguf(sys.argv[1], Path()), window=256, threads=2)
try:
    print(model.complete(Prompt("test", text="The capital of France is", stop=(".",)), Limits(8, 300.0)).text)
except RagError as error:
    print(type(error).__name__, error.code, error)
"""


def refusal(model: GgufModel, window: int = 512) -> ModelError:
    with pytest.raises(ModelError) as caught, closing(Gguf(model, window=window, threads=1)) as found:
        found.complete(FRANCE, LIMITS)
    assert str(model.path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


# Loading.


def test_opening_loads_nothing(small: GgufModel) -> None:
    small.path.unlink()
    found = Gguf(small, window=512, threads=1)
    assert (found.name, found.weights_bytes, found.window) == (small.id, small.size_bytes, 512)


def test_import_loads_no_runtime(gguf_path: Path) -> None:
    done = run("import sys, rag.generate.gguf; print('xllamacpp' in sys.modules)", gguf_path)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_missing_extra_is_named(small: GgufModel) -> None:
    # None in the table of modules is how Python marks a module that cannot be imported.
    done = run("import sys\nsys.modules['xllamacpp'] = None\n" + ANSWER, small.path)
    assert done.stdout.startswith(f"{MissingExtraError.__name__} missing_extra")
    assert "ragwatt[local]" in done.stdout


# A runtime that asks the loader of the system for an OpenMP that is not there, as xllamacpp does on a slim Debian.
WITHOUT_OPENMP = """
import ctypes
try:
    ctypes.CDLL("libgomp.so.0-missing")
except OSError as error:
    raise ImportError(str(error)) from error
"""


def test_missing_system_library_is_named_with_its_package(small: GgufModel) -> None:
    (small.path.parent / "xllamacpp.py").write_text(WITHOUT_OPENMP)
    done = run(ANSWER, small.path, PYTHONPATH=str(small.path.parent))
    assert done.stdout.startswith(
        "ModelError runtime_unloadable llama.cpp is installed, but cannot be loaded (libgomp.so.0-missing: "
    )
    assert done.stdout.endswith("; install the system package libgomp1 (on Debian and Ubuntu; libgomp elsewhere)\n")


def test_runtime_that_is_broken_otherwise_is_to_be_installed_again(small: GgufModel) -> None:
    (small.path.parent / f"xllamacpp{EXTENSION_SUFFIXES[-1]}").write_bytes(b"")
    done = run(ANSWER, small.path, PYTHONPATH=str(small.path.parent))
    assert done.stdout.startswith("ModelError runtime_unloadable ")
    assert "ragwatt[local]" in done.stdout
    assert "libgomp1" not in done.stdout


@needs_runtime
def test_file_that_was_removed_since_it_was_found_is_refused(small: GgufModel) -> None:
    small.path.unlink()
    assert refusal(small).code == "model_damaged"


@pytest.mark.parametrize("n_bytes", [0, 4, 24, 5_000, 3_000_000, -1])
def test_file_that_was_cut_off_since_it_was_found_is_refused(gguf_path: Path, tmp_path: Path, n_bytes: int) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(gguf_path.read_bytes()[:n_bytes])
    assert refusal(replace(find_gguf(str(gguf_path), tmp_path), path=path)).code == "model_damaged"


@needs_runtime
def test_model_larger_than_memory_is_refused_before_it_is_loaded(small: GgufModel) -> None:
    assert refusal(replace(small, size_bytes=1 << 42)).code == "model_too_large"


@needs_runtime
def test_window_counts_as_memory(small: GgufModel) -> None:
    assert refusal(small, window=10**12).code == "model_too_large"


def test_window_of_the_settings_is_cut_to_what_the_model_was_made_for(gguf_path: Path, tmp_path: Path) -> None:
    chosen = LanguageModelSettings("gguf", str(gguf_path), window=10_000)
    with closing(open_generator(Settings(tmp_path, answer=AnswerSettings("model"), language_model=chosen))) as generator:
        # More than the 8192 tokens of the model, fewer than the 10000 wanted: it is not asked.
        assert generator.say([Message("user", "word " * 9000)], Meter()) is None


@pytest.mark.parametrize(("window", "threads"), [(0, 1), (512, 0), (512, -1)])
def test_numbers_that_llama_cpp_takes_for_all_it_can_get_are_refused(small: GgufModel, window: int, threads: int) -> None:
    with pytest.raises(ConfigError, match="must be 1 or more"):
        Gguf(small, window=window, threads=threads)


# Answering.


@pytest.mark.parametrize("prompt", [FRANCE, question("How tall?"), Prompt("test", messages=(Message("user", "Hi <|im_end|>"),))])
def test_count_is_exact(model: Gguf, prompt: Prompt) -> None:
    assert model.count(prompt) == model.complete(prompt, Limits(1, LIMITS.timeout_s)).n_prompt


def test_copied_answer_is_a_run_of_words_of_the_text(model: Gguf) -> None:
    asked = question("When was the tower finished?")
    limits = Limits(32, LIMITS.timeout_s, copy_from=SOURCE)
    completion = model.complete(asked, limits)
    assert "1889" in completion.text
    assert completion.text.strip() in SOURCE
    assert completion.text.startswith(" ")


@pytest.mark.parametrize(
    "source",
    [
        "zebra",
        "“quotes” — naïve 你好，世界 \U0001f600 a\u0301",
        'back \\ slash " and {"json": 1}',
        "x_y 3.14 don't",
        "lone \ud800 \x00 \x07",
    ],
)
def test_what_is_copied_comes_from_the_text_and_from_nowhere_else(model: Gguf, source: str) -> None:
    text = model.complete(FRANCE, Limits(16, LIMITS.timeout_s, copy_from=source)).text.strip()
    assert text in source
    assert "Paris" not in text


def test_answer_that_escaped_an_ignored_grammar_is_refused(model: Gguf) -> None:
    too_much = " ".join(f"word{number}" for number in range(60_000))
    with pytest.raises(ModelError, match="'.?Paris") as caught:
        model.complete(FRANCE, Limits(8, LIMITS.timeout_s, copy_from=too_much))
    assert caught.value.code == "not_copied"


def written(text: str, ending: Ending = "stop") -> Completion:
    return Completion(text, 1, 1, 0, ending)


@given(st.text(max_size=30), st.integers(0, 30), st.integers(0, 30))
def test_any_run_of_words_passes_for_a_copy(source: str, start: int, n_words: int) -> None:
    words = re.findall(r"\w+|\W", source)
    completion = written(" " + "".join(words[start : start + n_words]))
    assert checked_copy(completion, source) == completion


@given(st.text(max_size=12), st.text(max_size=12))
def test_what_is_not_in_the_text_never_passes_for_a_copy(text: str, source: str) -> None:
    passes = True
    try:
        checked_copy(written(text), source)
    except ModelError:
        passes = False
    assert not passes or text.strip() in source


@pytest.mark.parametrize("text", ["Par", "aris", "30 m", "Tower in", "paris", "Paris,", "188", "889"])
def test_part_of_a_word_or_other_words_are_no_copy(text: str) -> None:
    with pytest.raises(ModelError):
        checked_copy(written(f" {text}"), SOURCE)


def test_copy_that_the_cap_cut_within_a_word_ends_before_it() -> None:
    assert checked_copy(written(" stands in Par", "length"), SOURCE).text == " stands in "


def test_copy_that_the_cap_cut_after_a_word_is_whole() -> None:
    assert checked_copy(written(" stands in Paris", "length"), SOURCE).text == " stands in Paris"


def test_waiting_for_another_answer_takes_of_the_time(model: Gguf, monkeypatch: pytest.MonkeyPatch) -> None:
    model.count(FRANCE)  # loads
    asked, release = threading.Event(), threading.Event()

    def held(address: str, path: str, body: bytes, timeout_s: float) -> object:
        asked.set()
        release.wait(60)
        return _exchange(address, path, body, timeout_s)

    monkeypatch.setattr("rag.generate.gguf._exchange", held)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(model.complete, FRANCE, LIMITS)
        try:
            assert asked.wait(60)
            with pytest.raises(ModelError) as caught:
                model.complete(FRANCE, Limits(8, 0.1))
            assert not other.done()
        finally:
            release.set()
        assert other.result().text
    assert caught.value.code == "timeout"


def test_too_long_a_prompt_names_both_numbers(model: Gguf) -> None:
    with pytest.raises(ModelError, match=r"has 2501 tokens; .* at most 2048"):
        model.complete(Prompt("test", text="word " * 2500), LIMITS)


def test_prompts_of_the_past_are_not_kept_in_memory(model: Gguf) -> None:
    header = "The harbour was built in 1902 by the sons of the old fisherman. " * 4
    model.complete(Prompt("test", text=header), Limits(1, LIMITS.timeout_s))
    model.complete(FRANCE, LIMITS)
    assert model.complete(Prompt("test", text=header), Limits(1, LIMITS.timeout_s)).n_cached < 5


def test_cpu_time_of_loading_is_charged_to_who_asked_first(gguf_path: Path) -> None:
    with closing(opened(gguf_path)) as model:
        process, thread = time.process_time_ns(), time.thread_time_ns()
        model.count(FRANCE)
        told = time.thread_time_ns() - thread + model.lane.charged_ns()
        assert told == pytest.approx(time.process_time_ns() - process, rel=0.1)


# The server inside.


def own_sockets(table: str) -> list[list[str]]:
    """The rows of a table of the kernel about sockets that this process holds."""
    inodes = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the entry of the listing itself
            inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(entry)))
    rows = [line.split() for line in Path("/proc/net", table).read_text().splitlines()[1:]]
    return [row for row in rows if inodes & set(row)]


def listening_ports() -> list[str]:
    return sorted(row[1] for table in ("tcp", "tcp6") for row in own_sockets(table) if row[3] == "0A")


def model_sockets() -> set[str]:
    return {row[-1] for row in own_sockets("unix") if row[-1].endswith(".sock")}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's tables of sockets are Linux's")
def test_no_port_listens_and_only_this_user_may_enter(gguf_path: Path) -> None:
    ports, sockets = listening_ports(), model_sockets()
    with socket.create_server(("127.0.0.1", 0)):
        assert len(listening_ports()) == len(ports) + 1  # this is how one would be seen
    with closing(opened(gguf_path)) as model:
        model.count(FRANCE)
        (found,) = model_sockets() - sockets
        folder = Path(found).parent
        assert listening_ports() == ports
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_closing_at_once_does_not_hang(gguf_path: Path) -> None:
    # Time is up as soon as the model is loaded, and on one core no native thread has had its turn by then.
    code = """import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
for _ in range(3):
    try:
        model.complete(Prompt("test", text="x"), Limits(1, 1e-6))
    except RagError as error:
        print(error.code)
    model.close()
"""
    done = run(ANSWER.partition("try:")[0] + code, gguf_path)
    assert (done.stdout, done.stderr, done.returncode) == ("timeout\n" * 3, "", 0)


# OpenMP.

LOAD_OPENMP = "import ctypes\nctypes.CDLL('libgomp.so.1')\n"


def test_idle_threads_sleep_and_nothing_is_printed_at_the_end(gguf_path: Path) -> None:
    assert run(ANSWER, gguf_path).stderr == ""
    done = run(ANSWER, gguf_path, OMP_DISPLAY_ENV="VERBOSE")
    assert (done.stdout.strip(), done.returncode) == ("Paris", 0)
    assert "GOMP_SPINCOUNT = '0'" in done.stderr


def test_wait_policy_that_was_set_here_is_known_to_the_next_model(gguf_path: Path) -> None:
    assert run(ANSWER + ANSWER, gguf_path).stdout.split() == ["Paris", "Paris"]


def test_threads_that_would_spin_are_refused(gguf_path: Path) -> None:
    done = run(LOAD_OPENMP + ANSWER, gguf_path)
    assert done.stdout.startswith("ConfigError openmp_spins threads is 2")
    assert "OMP_WAIT_POLICY=PASSIVE" in done.stdout


def test_one_thread_has_nobody_to_spin(gguf_path: Path) -> None:
    assert run(LOAD_OPENMP + ANSWER.replace("threads=2", "threads=1"), gguf_path).stdout.strip() == "Paris"


def test_wait_policy_of_the_start_is_believed(gguf_path: Path) -> None:
    assert run(LOAD_OPENMP + ANSWER, gguf_path, OMP_WAIT_POLICY="passive").stdout.strip() == "Paris"
