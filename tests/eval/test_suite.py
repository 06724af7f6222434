from __future__ import annotations

from pathlib import Path

import pytest

from eval.suite import NO_MODEL, load_suite
from rag.errors import InputError

SUITES = Path(__file__).parents[2] / "eval" / "suites"
GOOD = """\
name = "small"
seed = 7

[[data]]
name = "one"
path = "one"

[[pipeline]]
name = "a"
k = 5
[pipeline.settings]
"search.dense_weight" = 0.5

[[pipeline]]
name = "b"
mode = "eco"

[metrics]
names = ["ndcg@10", "containment"]
correct = "containment"

[[gate]]
metric = "containment"
margin = 0.01
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "suite.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_suite_is_well_formed(path: Path) -> None:
    assert load_suite(path).name == path.stem


def test_pipeline_without_a_model_is_always_the_first(tmp_path: Path) -> None:
    suite = load_suite(written(tmp_path, GOOD))
    assert [(p.name, p.mode) for p in suite.pipelines] == [(NO_MODEL, "eco"), ("a", "standard"), ("b", "eco")]
    assert suite.pipelines[1].settings == {"search.dense_weight": 0.5}
    assert suite.gates[0].margin == 0.01


def test_same_text_has_the_same_checksum_and_another_another(tmp_path: Path) -> None:
    one = load_suite(written(tmp_path, GOOD)).checksum
    assert load_suite(written(tmp_path, GOOD)).checksum == one
    assert load_suite(written(tmp_path, GOOD + "\n")).checksum != one


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("k = 5", 'k = "five"', r"suite.toml, line 10, key pipeline.k: Expected `int`, got `str`"),
        ("k = 5", "k = 0", r"line 10, key pipeline.k: k is 0; allowed: 1 to 1000"),
        ("k = 5", "knob = 5", r"line 10, key pipeline.knob: Object contains unknown field `knob`"),
        ('mode = "eco"', 'mode = "fast"', r"line 16, key pipeline.mode: Invalid enum value 'fast'"),
        ('name = "b"', 'name = "a"', r"line 15, key pipeline.name: name 'a'; allowed: 1 to 64 letters"),
        ('name = "b"', f'name = "{NO_MODEL}"', r"line 15, key pipeline.name: name 'no-model'"),
        ("ndcg@10", "ndgc@10", r"line 19, key metrics.names: metric 'ndgc@10' is unknown; allowed: ndcg@K, "),
        ("ndcg@10", "containment", r"line 19, key metrics.names: metric 'containment' stands twice"),
        ('correct = "containment"', 'correct = "token_f1"', r"line 20, key metrics.correct: correct is 'token_f1'"),
        ('metric = "containment"', 'metric = "token_f1"', r"line 23, key gate.metric: metric 'token_f1' is not measured"),
        ('metric = "containment"', 'metric = "carbon_g"', r"line 23, key gate.metric: carbon_g is a cost; allowed: max"),
        ("margin = 0.01", "margin = -1.0", r"line 24, key gate.margin: margin is -1.0; allowed: a finite number, 0.0 or more"),
        ("margin = 0.01", "margin = inf", r"line 24, key gate.margin: margin is inf"),
        ("margin = 0.01", "min = nan", r"line 24, key gate.min: min is nan; allowed: a finite number"),
        ("seed = 7", "seed = -7", r"line 2, key seed: seed is -7; allowed: 0 or more"),
        ('name = "small"', 'name = "../x"', r"line 1, key name: name '../x'; allowed: 1 to 64 letters"),
        ('name = "one"', 'name = ".."', r"line 5, key data.name: name '..'; allowed"),
        (
            '["ndcg@10", "containment"]\ncorrect = "containment"',
            '["hallucination", "containment"]\ncorrect = "hallucination"',
            r"line 20, key metrics.correct: correct is 'hallucination'; allowed: one of names that is a share",
        ),
        ("ndcg@10", "ndcg@0", r"metric 'ndcg@0' is unknown; allowed: ndcg@K, .*with K from 1 to 999"),
        ("margin = 0.01", 'data = "two"', r"line 24, key gate.data: data 'two' is not in this suite; allowed: one"),
        ('path = "one"', "hide = 0.9\npath = '.'", r"line 6, key data.hide: hide is 0.9; allowed: 0.0 to 0.5"),
        ('name = "small"\n', "", r"line 1, key name: Object missing required field `name`"),
        ("[metrics]", "[metrics", r"suite.toml is not TOML: .*line 18"),
    ],
)
def test_what_is_wrong_is_said_with_line_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(InputError, match=message):
        load_suite(written(tmp_path, GOOD.replace(old, new, 1)))


def test_empty_suite_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 1, key name: Object missing required field `name`"):
        load_suite(written(tmp_path, ""))


def test_suite_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no \[\[data\]\]; give at least one"):
        load_suite(written(tmp_path, 'name = "x"\ndata = []\n' + GOOD[GOOD.index("[[pipeline]]") :]))


def test_missing_suite_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere.toml cannot be read: No such file"):
        load_suite(tmp_path / "nowhere.toml")


def test_suite_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(InputError, match="is not TOML: .*utf-8"):
        load_suite(path)
