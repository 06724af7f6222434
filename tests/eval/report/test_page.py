"""The page as a whole, as a parser of browsers reads it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import msgspec
import pytest
from selectolax.lexbor import LexborHTMLParser, LexborNode

from eval.record import CostRecord, Estimate, RunRecord, StageRecord
from eval.report import write_report
from rag.errors import InputError
from tests.eval.report.maker import SENTENCE, result, run
from tests.eval.results import make_result, make_run

HOSTILE = '</dd></td><script src="https://evil.example/x.js"></script><img src=x onerror=alert(1)>"\' {{ 7*7 }} $x^{ \u202e\ud800 '
LONG = 1190


def first(tree: LexborHTMLParser | LexborNode, selector: str) -> LexborNode:
    node = tree.css_first(selector)
    assert node is not None, selector
    return node


def without_tokens(run: RunRecord) -> RunRecord:
    """The same with fewer plots."""
    return msgspec.structs.replace(run, quality={name: one for name, one in run.quality.items() if not name.endswith("tokens")})


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two releases side by side, one of them without joules for a pipeline."""
    out = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    before = (run("no-model", share=0.6, joules=0.5), run("eco", share=0.7, joules=0.6, method="measured"))
    after = (run("no-model", share=0.6, joules=0.5), run("eco", share=0.72, joules=None))
    write_report(
        [result(*map(without_tokens, before)), result(*map(without_tokens, after), version="1.1.0", scorer="l0-2")],
        out,
    )
    return out.read_text("utf-8")


@pytest.fixture(scope="module")
def tree(html: str) -> LexborHTMLParser:
    return LexborHTMLParser(html)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Every text that a result can hold is hostile."""
    whole = run("eco", share=0.5, joules=0.5, n=60, text=HOSTILE)
    questions = tuple(
        msgspec.structs.replace(
            q,
            question_id=f"{HOSTILE}{q.question_id}",
            slice=HOSTILE + q.slice,
            question=HOSTILE,
            generator=HOSTILE,
            error=q.error and HOSTILE,
            unscored={**q.unscored, HOSTILE: HOSTILE},
            claims=tuple(
                msgspec.structs.replace(
                    c, verdict=HOSTILE if c.verdict == "supported" else c.verdict, doc_id=HOSTILE, flags=(HOSTILE,)
                )
                for c in q.claims
            ),
        )
        for q in whole.questions
    )
    quality = {**without_tokens(whole).quality, HOSTILE: whole.quality["containment"]}
    changed = msgspec.structs.replace(
        whole,
        pipeline=HOSTILE,
        data=HOSTILE,
        questions=questions,
        quality=quality,
        settings={HOSTILE: HOSTILE},
        notes=(HOSTILE,),
        boundary=HOSTILE,
        method=HOSTILE,
    )
    one = msgspec.structs.replace(
        result(changed), suite=HOSTILE, machine=HOSTILE, version=HOSTILE, judge=HOSTILE, suite_checksum=HOSTILE, scorer=HOSTILE
    )
    out = tmp_path_factory.mktemp("hostile") / "report.html"
    write_report([one], out)
    return out.read_text("utf-8")


def test_the_page_asks_for_nothing(tree: LexborHTMLParser) -> None:
    assert tree.css("script, link, iframe, object, embed, base, form, img, audio, video, source") == []
    for node in tree.css("[src], [href], [srcset], [action], [data], [poster]"):
        assert all((value or "").startswith("#") for name, value in node.attributes.items() if name.endswith(("src", "href")))
    assert not re.search(r"@import|url\((?!#)", tree.html or "")


def test_a_browser_is_told_to_ask_for_nothing(tree: LexborHTMLParser) -> None:
    policy = first(tree, 'meta[http-equiv="Content-Security-Policy"]').attributes["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("page", ["tree", "hostile"])
def test_every_table_has_a_caption_and_scoped_headings(page: str, request: pytest.FixtureRequest) -> None:
    value = request.getfixturevalue(page)
    tables = (LexborHTMLParser(value) if isinstance(value, str) else value).css("table")
    assert tables
    for table in tables:
        assert first(table, "caption").text(strip=True)
        assert all(heading.attributes.get("scope") in ("col", "row") for heading in table.css("th"))
        width = len(table.css("thead th"))
        assert all(len(row.css("th, td")) == width for row in table.css("tbody tr"))


def test_no_cell_is_blank_and_nothing_is_nan(tree: LexborHTMLParser, html: str) -> None:
    assert all(cell.text(strip=True) for cell in tree.css("th, td, dd, li, caption"))
    assert not re.search(r"\b(nan|inf|None|undefined)\b", re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL))


def test_headings_go_down_by_one_and_ids_are_unique(tree: LexborHTMLParser) -> None:
    levels = [int(node.tag[1]) for node in tree.css("h1, h2, h3, h4, h5, h6") if node.tag]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    ids = [node.attributes["id"] for node in tree.css("[id]")]
    assert len(ids) == len(set(ids))


def test_every_plot_has_a_role_and_words(tree: LexborHTMLParser) -> None:
    pictures = tree.css("figure svg")
    assert len(pictures) == len(tree.css("figure")) > 4
    for picture in pictures:
        assert picture.attributes["role"] == "img"
        for name in (picture.attributes["aria-labelledby"] or "").split():
            assert first(tree, f'[id="{name}"]').text(strip=True)


def test_every_link_leads_somewhere(tree: LexborHTMLParser) -> None:
    links = [link.attributes["href"] or "" for link in tree.css("nav a")]
    assert len(links) == 2
    assert all(tree.css_first(f'[id="{link[1:]}"]') for link in links)


def test_dark_mode_print_and_small_screens_are_thought_of(html: str) -> None:
    assert "@media (prefers-color-scheme: dark)" in html
    assert "@media print" in html
    assert 'name="viewport"' in html


def test_releases_stand_side_by_side_with_a_caution(tree: LexborHTMLParser) -> None:
    quality = next(table for table in tree.css("table") if first(table, "caption").text() == "Quality")
    assert [heading.text() for heading in quality.css("thead th")[1:]] == [
        "no-model, 1.0.0 (1)",
        "no-model, 1.1.0 (2)",
        "eco, 1.0.0 (1)",
        "eco, 1.1.0 (2)",
    ]
    assert "different groundedness scorers" in first(tree, ".caution").text()


def test_worst_answers_show_claims_beside_evidence(tree: LexborHTMLParser) -> None:
    articles = tree.css("article")
    assert len(articles) == 4 * 20
    assert first(articles[0], "thead").text(separator="|", strip=True) == "claim|best evidence|verdict"
    assert SENTENCE.strip() in first(articles[0], "tbody td").text()


def test_hostile_texts_stay_texts(hostile: str) -> None:
    tree = LexborHTMLParser(hostile)
    assert tree.css("script, img, [onerror]") == []
    assert "49" not in first(tree, "h1").text()
    assert "<script" in first(tree, "dd").text()
    assert len(tree.css("main > section")) == 2


def test_the_same_results_give_the_same_bytes_as_page_svg_and_png(tmp_path: Path) -> None:
    one = make_result(make_run({"containment": [0.0, 1.0, 1.0]}, cpu_s=[1.0, 1.0, 1.0], energy_j=3.0, method="modelled"))
    for name in ("a", "b"):
        write_report([one], tmp_path / f"{name}.html", tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == [f"{stem}.{ending}" for stem in ("01-containment-energy_j-set", "02-stages-J-set") for ending in ("png", "svg")]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


def test_a_long_run_makes_a_page_that_opens(tmp_path: Path) -> None:
    """1,190 questions for three pipelines, with long answers and evidence."""
    runs = (
        run(name, share=share, joules=1.0, n=LONG, text=SENTENCE * 9)
        for name, share in (("no-model", 0.5), ("eco", 0.6), ("auto", 0.7))
    )
    write_report([result(*runs)], tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 2_000_000
    assert len(LexborHTMLParser((tmp_path / "report.html").read_text("utf-8")).css("article")) == 60


def test_a_file_with_nan_in_it_has_a_page_without(tmp_path: Path) -> None:
    whole = without_tokens(run("eco", share=0.5, joules=0.5, n=6))
    broken = {name: Estimate(one.value, math.nan, math.inf, one.n) for name, one in whole.quality.items()}
    cost = {**whole.cost, "energy_hi_j": Estimate(math.inf), "cpu_s": Estimate(math.nan)}
    questions = tuple(
        msgspec.structs.replace(
            q,
            scores=dict.fromkeys(q.scores, math.nan) if n else q.scores,
            cost=CostRecord(math.nan, math.nan, 1, math.nan, stages=(StageRecord("embed", math.nan, math.nan),)),
        )
        for n, q in enumerate(whole.questions)
    )
    one = result(msgspec.structs.replace(whole, quality=broken, cost=cost, questions=questions))
    write_report([one], tmp_path / "report.html")
    text = LexborHTMLParser((tmp_path / "report.html").read_text("utf-8")).body
    assert text is not None
    assert not re.search(r"\b(nan|inf)\b", text.html or "", flags=re.IGNORECASE)


def test_a_result_of_scores_alone_has_a_page(tmp_path: Path) -> None:
    write_report([make_result(make_run({"containment": [0.0, 1.0, None]}))], tmp_path / "report.html")
    tree = LexborHTMLParser((tmp_path / "report.html").read_text("utf-8"))
    assert first(tree, "article dd").text() == "not in the result file"
    assert "Nothing can be drawn" in first(tree, "main").text()


def test_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one result"):
        write_report([], tmp_path / "report.html")


def test_a_page_that_cannot_be_written_is_our_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"report .* cannot be written: .*; give another path"):
        write_report([make_result(make_run({"containment": [1.0]}))], tmp_path / "file" / "report.html")
