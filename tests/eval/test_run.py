from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.cost import PeakMark
from eval.datasets import load
from eval.record import Result, RunRecord, load_result, save_result
from eval.run import RunOptions, open_target, run_suite, told_of_arms
from eval.suite import NO_MODEL, PipelineSpec, load_suite
from ingest.pipeline import IngestRequest, ingest
from ingest.progress import LineProgress
from rag.embed import open_embedder
from rag.engine import open_engine
from rag.errors import ConfigError, InputError, SnapshotError
from rag.meter import Meter
from rag.settings import EvalSettings, Settings, changed
from tests.answer_server import running_answer_server
from tests.eval.results import make_run
from tests.eval.small import PAGES, QUESTIONS, SUITE, write_suite

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def run(data_dir: Path, tmp_path: Path) -> Run:
    def run(suite: str = SUITE, settings: Settings | None = None, **options: Any) -> Result:  # noqa: ANN401 - those of `RunOptions`
        settings = settings or changed(Settings(), {"data_dir": str(data_dir)}, "test")
        return run_suite(load_suite(write_suite(tmp_path, suite)), RunOptions(settings, **options), LineProgress())

    return run


def ingest_pages(folder: Path, settings: Settings) -> None:
    """Pages of the small suite as the collection kb of a user."""
    write_suite(folder)
    embedder = open_embedder(settings.embedder, settings.data_dir / "models")
    ingest(IngestRequest((folder / "pages",), "kb"), settings, embedder, LineProgress(), Meter())


def timeless(result: Result, folder: Path) -> str:
    """A result without what a clock tells, as text."""

    def without(value: object) -> object:
        if isinstance(value, dict):
            return {key: without(inner) for key, inner in value.items() if key not in ("cost", "effort")}
        return [without(inner) for inner in value] if isinstance(value, list) else value

    save_result(result, folder / "result.json")
    return json.dumps(without(json.loads((folder / "result.json").read_text(encoding="utf-8"))))


def test_every_pipeline_is_put_to_every_question(run: Run, tmp_path: Path) -> None:
    result = run()
    assert [(each.data, each.pipeline) for each in result.runs] == [("handbook", NO_MODEL), ("handbook", "standard")]
    assert (result.data[0].n_questions, result.data[0].n_documents, result.data[0].licence) == (len(QUESTIONS), len(PAGES), "ours")
    standard = result.runs[1]
    assert [question.question_id for question in standard.questions] == [str(each["id"]) for each in QUESTIONS]
    assert standard.quality["containment"].value == pytest.approx(1.0)
    assert (standard.quality["rejection"].value, standard.quality["rejection"].n_unscored) == (1.0, 7)
    assert standard.quality["refusal"].value is None
    assert standard.cost["cpu_s"].n == len(QUESTIONS)
    assert standard.settings == {"mode": "standard", "k": "10", "answer.abstain_below": "0.3"}
    assert all(question.claims for question in standard.questions if not question.abstained)
    assert (result.effort.answers_cpu_s > 0, result.effort.harness_cpu_s > 0, result.correct) == (True, True, "containment")
    assert load_result_of(result, tmp_path) == result


def load_result_of(result: Result, folder: Path) -> Result:
    save_result(result, folder / "r.json.gz")
    return load_result(folder / "r.json.gz")


def test_same_suite_gives_the_same_but_for_times(run: Run, tmp_path: Path) -> None:
    first, second = run(), run()
    assert timeless(first, tmp_path) == timeless(second, tmp_path)
    assert second.effort.ingest_cpu_s < first.effort.answers_cpu_s + 1


def test_without_texts_the_scores_are_the_same_and_nothing_is_quoted(run: Run) -> None:
    whole, bare = run(), run(has_texts=False)
    assert [q.scores for each in whole.runs for q in each.questions] == [q.scores for each in bare.runs for q in each.questions]
    assert {(q.question, q.answer, q.claims) for each in bare.runs for q in each.questions} == {("", "", ())}


def test_limit_and_only_narrow_a_run(run: Run) -> None:
    suite = SUITE.replace("[metrics]", '[[pipeline]]\nname = "other"\nmode = "eco"\n\n[metrics]')
    result = run(suite, limit=3, only=("other",))
    assert [(each.pipeline, len(each.questions)) for each in result.runs] == [(NO_MODEL, 3), ("other", 3)]


def test_pipeline_that_is_not_there_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match="pipeline 'fast' is not in suite 'small'; allowed: no-model, standard"):
        run(only=("fast",))


def test_setting_that_is_not_there_is_refused_with_the_pipeline(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'answer.abstain' in pipeline 'standard'"):
        run(SUITE.replace("answer.abstain_below", "answer.abstain"))


def test_question_that_fails_is_recorded_and_the_rest_goes_on(run: Run, data_dir: Path) -> None:
    settings = changed(Settings(), {"data_dir": str(data_dir), "search.max_query_chars": 30}, "test")
    standard = run(settings=settings).runs[1]
    failed = [question for question in standard.questions if question.error]
    assert failed
    assert len(failed) < len(QUESTIONS)
    assert all(
        question.error.startswith("query_too_long: ") and set(question.unscored.values()) == {"failed"} for question in failed
    )
    assert f"{len(failed)} of {len(QUESTIONS)} questions failed, the first with {failed[0].error}" in standard.notes
    assert standard.cost["cpu_s"].n_unscored == len(failed)
    assert all(question.cost is not None and question.cost.wall_s > 0 for question in failed)
    assert standard.cost["cpu_s_per_correct"].value is not None


def test_pipeline_that_only_searches_has_rankings_and_no_answers(run: Run) -> None:
    dense = run(SUITE.replace('name = "standard"\n', 'name = "standard"\nmode = "dense"\n')).runs[1]
    assert dense.quality["ndcg@10"].value is not None
    assert dense.quality["containment"].value is None
    assert dense.cost["cpu_s"].value is None


def test_a_collection_of_the_user_can_be_asked(run: Run, data_dir: Path) -> None:
    made = next(each.name for each in (data_dir / "eval" / "snapshots").iterdir() if each.name.startswith("handbook"))
    suite = SUITE.replace('documents = "pages"', f'collection = "{made}"')
    settings = changed(Settings(), {"data_dir": str(data_dir / "eval")}, "test")
    result = run(suite, settings=settings)
    assert result.runs[1].quality["containment"].value == pytest.approx(1.0)
    assert result.data[0].n_documents == len(PAGES)


def test_a_collection_of_the_user_that_changes_between_runs_is_another_snapshot(run: Run, tmp_path: Path) -> None:
    settings = changed(Settings(), {"data_dir": str(tmp_path / "user")}, "test")
    suite = SUITE.replace('documents = "pages"', 'collection = "kb"')
    ingest_pages(tmp_path, settings)
    first = run(suite, settings=settings).data[0]
    assert run(suite, settings=settings).data[0] == first
    (tmp_path / "pages" / "new.md").write_text("# New\n\nA new page.\n")
    ingest_pages(tmp_path, settings)
    second = run(suite, settings=settings).data[0]
    assert (first.n_documents, second.n_documents) == (len(PAGES), len(PAGES) + 1)
    assert (first.snapshot.split("#")[0], second.snapshot.split("#")[0]) == ("kb@1", "kb@2")
    assert first.snapshot.split("#")[1] != second.snapshot.split("#")[1]
    assert first.checksum == second.checksum


def test_a_collection_made_of_the_data_set_is_told_by_its_checksum_alone(run: Run) -> None:
    assert run().data[0].snapshot == ""


def test_running_service_is_asked_over_http_and_scores_the_same(run: Run, data_dir: Path) -> None:
    here = run()
    name = next(each.name for each in (data_dir / "eval" / "snapshots").iterdir() if each.name.startswith("handbook"))
    settings = changed(Settings(), {"data_dir": str(data_dir / "eval"), "answer.abstain_below": 0.3}, "test")
    suite = SUITE.replace('settings = { "answer.abstain_below" = 0.3 }', "")
    broken = frozenset({"Where is the garage?"})
    with open_engine(settings, name) as engine, running_answer_server(engine, broken) as server:
        there = run(suite, settings=replace(settings, eval=EvalSettings(server.url)))
    pairs = list(zip(here.runs[1].questions, there.runs[1].questions, strict=True))
    assert [theirs.question_id for _, theirs in pairs if theirs.error] == ["q4"]
    assert [ours.scores for ours, _ in pairs if ours.question_id != "q4"] == [q.scores for _, q in pairs if q.question_id != "q4"]
    assert {request["collection"] for request in server.requests} == {"handbook"}
    assert there.data[0].snapshot == "handbook@1"
    assert there.runs[1].cost["cpu_s_per_correct"].value is None
    assert any(note.startswith("cost per correct answer is not known: 1 failed") for note in there.runs[1].notes)


def test_service_that_is_gone_is_asked_three_times_and_the_rest_is_recorded(run: Run, data_dir: Path) -> None:
    run()
    name = next(each.name for each in (data_dir / "eval" / "snapshots").iterdir() if each.name.startswith("handbook"))
    settings = changed(Settings(), {"data_dir": str(data_dir / "eval")}, "test")
    suite = SUITE.replace('settings = { "answer.abstain_below" = 0.3 }', "")
    texts = [str(each["question"]) for each in QUESTIONS]
    with open_engine(settings, name) as engine, running_answer_server(engine, gone=frozenset(texts[2:])) as server:
        result = run(suite, settings=replace(settings, eval=EvalSettings(server.url)), only=(NO_MODEL,))
    (found,) = result.runs
    assert [bool(question.error) for question in found.questions] == [False] * 2 + [True] * 6
    assert {request["query"] for request in server.requests} == set(texts[:5])
    assert [question.error for question in found.questions[5:]] == [found.questions[4].error] * 3
    assert found.questions[4].error.startswith("eval_unavailable: ")
    assert "stopped after 3 failures of a server in a row: 3 questions were not asked" in found.notes


def test_settings_of_a_suite_are_refused_for_a_running_service(run: Run, data_dir: Path) -> None:
    settings = replace(changed(Settings(), {"data_dir": str(data_dir)}, "test"), eval=EvalSettings("http://127.0.0.1:9"))
    with pytest.raises(
        InputError, match="pipeline 'standard' sets answer.abstain_below, and a running service has its own settings"
    ):
        run(settings=settings)


def test_pipeline_that_is_refused_is_so_before_any_question_is_asked(run: Run, data_dir: Path) -> None:
    run()
    name = next(each.name for each in (data_dir / "eval" / "snapshots").iterdir() if each.name.startswith("handbook"))
    settings = changed(Settings(), {"data_dir": str(data_dir / "eval")}, "test")
    with open_engine(settings, name) as engine, running_answer_server(engine) as server:
        with pytest.raises(InputError, match="a running service has its own settings"):
            run(settings=replace(settings, eval=EvalSettings(server.url)))
        assert server.requests == []


def test_highest_memory_of_a_run_is_not_that_of_what_was_before(run: Run) -> None:
    block = bytearray(b"x") * (300 << 20)
    assert len(block)
    del block
    peaks = [each.cost["peak_rss_bytes"].value for each in run().runs]
    if PeakMark().n_bytes() is None:
        pytest.skip("this system cannot reset the mark")
    now = PeakMark().n_bytes()
    assert now is not None
    assert all(peak is not None and peak < now + (200 << 20) for peak in peaks)


def test_data_set_of_which_hiding_leaves_no_document_is_told(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "d", "title": "", "text": "The pump starts at 5 bar."}\n')
    rows = ['{"_id": "q1", "text": "When does the pump start?"}', '{"_id": "q2", "text": "What is the rent?"}']
    (folder / "queries.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td\t1\nq2\td\t0\n")
    suite = SUITE.replace('path = "questions.jsonl"\nformat = "jsonl"\ndocuments = "pages"', 'path = "one"\nhide = 0.5')
    with pytest.raises(InputError, match="data set 'handbook' has no document left: hide took all 1; lower hide"):
        run(suite)


def test_answer_pays_for_its_own_embedding(run: Run, data_dir: Path, tmp_path: Path) -> None:
    for question in run().runs[1].questions:
        assert question.cost is not None
        assert "embed" in [stage.name for stage in question.cost.stages]


def test_collection_that_is_not_there_is_refused_with_the_way_out(tmp_path: Path) -> None:
    suite = load_suite(write_suite(tmp_path, SUITE.replace('documents = "pages"', 'collection = "nowhere"')))
    settings = changed(Settings(), {"data_dir": str(tmp_path / "empty")}, "test")
    with pytest.raises(SnapshotError, match="run 'rag ingest FOLDER' first"):
        open_target(PipelineSpec("a"), load(suite.data[0], (tmp_path,)), RunOptions(settings), LineProgress())


def ranked(pipeline: str, mode: str, ndcg: float | None) -> RunRecord:
    return make_run({"ndcg@10": [ndcg, ndcg]}, pipeline=pipeline, settings={"mode": mode})


def test_a_hybrid_below_its_better_arm_is_told() -> None:
    runs = told_of_arms([ranked("no-model", "eco", 0.5), ranked("dense", "dense", 0.9), ranked("standard", "standard", 0.8)])
    assert [len(run.notes) for run in runs] == [0, 0, 1]
    assert "ndcg@10 is 0.8000, below the 0.9000 of dense" in runs[2].notes[0]


@pytest.mark.parametrize("arm", [0.7, None])
def test_a_hybrid_above_its_arms_needs_no_note(arm: float | None) -> None:
    runs = told_of_arms([ranked("no-model", "eco", arm), ranked("standard", "standard", 0.8)])
    assert [run.notes for run in runs] == [(), ()]
