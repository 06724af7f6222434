from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eval.record import ClaimRecord, CostRecord, QuestionRecord, Result, load_result, save_result
from rag.errors import InputError
from tests.eval.results import make_result, make_run


def result() -> Result:
    return make_result(make_run({"containment": [1.0, 0.0, None]}, cpu_s=[0.1, 0.2, None]))


@pytest.mark.parametrize("name", ["r.json", "r.json.gz", "deep/down/r.json"])
def test_result_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    claim = ClaimRecord(0, 4, "supported", 0.9, ("number",), "evi\u0000\U0001f600dence", "d")
    question = QuestionRecord("q", "g", "s", {"x": 0.1}, answer="é", claims=(claim,), cost=CostRecord(0.1, 0.2, 3))
    whole = result()
    whole = msgspec.structs.replace(whole, runs=(msgspec.structs.replace(whole.runs[0], questions=(question,)),))
    save_result(whole, tmp_path / name)
    assert load_result(tmp_path / name) == whole


def test_same_result_is_the_same_to_the_byte(tmp_path: Path) -> None:
    for name in ("a.json.gz", "b.json.gz"):
        save_result(result(), tmp_path / name)
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_nothing_is_left_beside_a_result(tmp_path: Path) -> None:
    save_result(result(), tmp_path / "r.json")
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_result_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"result .*file/r.json cannot be written: .*; give another --out"):
        save_result(result(), tmp_path / "file" / "r.json")


def changed(tmp_path: Path, **values: object) -> Path:
    path = tmp_path / "r.json"
    save_result(result(), path)
    content: dict[str, Any] = json.loads(path.read_text())
    content.update(values)
    path.write_text(json.dumps(content))
    return path


def test_missing_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.json cannot be read: .*No such file.*run 'rag eval run' again"):
        load_result(tmp_path / "nowhere.json")


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_empty_result_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(InputError, match="r.json is empty"):
        load_result(tmp_path / "r.json")


def test_half_a_result_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    save_result(result(), path)
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    n_lines = len(text[: len(text) // 2].splitlines())
    with pytest.raises(InputError, match=rf"line ({n_lines}|{n_lines - 1}), column \d+ is not JSON: .*was the run interrupted"):
        load_result(path)


def test_half_a_compressed_result_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json.gz"
    save_result(result(), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"r.json.gz cannot be read: .*end-of-stream"):
        load_result(path)


def test_file_that_is_not_gzip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json.gz").write_bytes(b"{}")
    with pytest.raises(InputError, match=r"r.json.gz cannot be read: Not a gzipped file"):
        load_result(tmp_path / "r.json.gz")


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json.gz").write_bytes(gzip.compress(b"{}" * 500)[:12] + b"\xff" * 30)
    with pytest.raises(InputError, match=r"r.json.gz cannot be read"):
        load_result(tmp_path / "r.json.gz")


def test_other_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has format 2; this version reads 1"):
        load_result(changed(tmp_path, format=2))


def test_wrong_type_is_refused_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Expected `int`, got `str` - at `\$.seed`"):
        load_result(changed(tmp_path, seed="seven"))


def test_unknown_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown field `surprise`"):
        load_result(changed(tmp_path, surprise=1))


def test_json_that_is_no_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(InputError, match="is not a result of 'rag eval run'"):
        load_result(tmp_path / "r.json")


def test_nan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    save_result(result(), path)
    path.write_text(path.read_text().replace('"seed": 0', '"seed": NaN'))
    with pytest.raises(InputError, match="is not JSON: NaN is not a number"):
        load_result(path)


def edited(tmp_path: Path, old: str, new: str) -> Path:
    path = tmp_path / "r.json"
    save_result(result(), path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize("figure", ["1e999", "7.0", "-0.5"])
def test_score_that_no_metric_gives_is_refused_with_its_key(tmp_path: Path, figure: str) -> None:
    with pytest.raises(InputError, match=r"at \$.runs\[0\].questions\[0\].scores\['containment'\] is no score of that metric"):
        load_result(edited(tmp_path, '"containment": 1.0', f'"containment": {figure}'))


def test_cost_that_is_not_finite_is_refused_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\$.runs\[0\].questions\[0\].cost is negative or not finite"):
        load_result(edited(tmp_path, '"wall_s": 0.2', '"wall_s": -1.0'))


def test_question_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="question 'q0' stands twice"):
        load_result(edited(tmp_path, '"question_id": "q1"', '"question_id": "q0"'))


def test_json_without_end_of_nesting_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("[" * 200_000)
    with pytest.raises(InputError, match="r.json"):
        load_result(tmp_path / "r.json")


def test_corrupt_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json.gz"
    save_result(result(), path)
    content = bytearray(path.read_bytes())
    content[20] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="r.json.gz"):
        load_result(path)
