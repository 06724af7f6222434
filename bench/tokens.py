"""How far the token estimate lies above real tokenizers: mean, p95 and maximum of true/estimate, and how often it is too low.

    python bench/tokens.py --data DATA --tiktoken-cache FOLDER [--tokenizer NAME=tokenizer.json ...] [--code FOLDER]

DATA holds BEIR folders; FOLDER holds the vocabulary files of cl100k_base and o200k_base as tiktoken names them (the wheel of
llama-index-core carries both). "True" is the largest count of all the tokenizers given. The result goes to
bench/results/, named by commit, or "worktree" where the tree differs from its commit.
The golden counts of tests/rag/test_tokens.py are regenerated with ``--golden tests/golden/tokens_hostile.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import string
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from eval.datasets import load_beir
from rag.text import normalise, sentence_spans
from rag.tokens import TokenCounter, open_counter

# Enough for a stable p95 and a few CPU-minutes in all.
_MAX_TEXTS = 1500
_LINES_A_PIECE = 40
_CODE_SUFFIXES = (".py", ".pyi", ".md", ".txt", ".json", ".rst", ".js", ".h")
_MAX_CODE_BYTES = 200_000
_SEED = 7

# One sentence each, written for this project: the scripts that a corpus is likely to hold.
_LANGUAGES = (
    "Le développement économique de la région a été très différent après la guerre; les élèves étaient déjà à l'école.",
    "Die Größe der Universität überraschte die Gäste, während die Straßenbahn langsam über die Brücke fuhr.",
    "Wczoraj wieczorem żółta łódź płynęła przez jezioro, a dzieci śmiały się głośno, ponieważ ktoś wpadł do wody.",
    "Chính phủ Việt Nam đã quyết định tăng cường đầu tư vào giáo dục và y tế ở các tỉnh miền núi trong năm tới.",
    "Правительство решило увеличить расходы на образование и здравоохранение в отдалённых районах страны.",
    "Η κυβέρνηση αποφάσισε να αυξήσει τις δαπάνες για την εκπαίδευση και την υγεία στις απομακρυσμένες περιοχές.",
    "政府决定增加对偏远地区教育和医疗的投入，以改善人民的生活水平。这项计划将在明年开始实施，预计需要五年时间。",
    "政府は来年から地方の教育と医療への支出を増やすことを決定しました。この計画は完了までに五年かかる見込みです。",
    "정부는 내년부터 지방의 교육과 의료에 대한 지출을 늘리기로 결정했습니다. 이 계획은 오년이 걸릴 것으로 보입니다.",
    "قررت الحكومة زيادة الإنفاق على التعليم والصحة في المناطق النائية من البلاد لتحسين حياة الناس.",
    "सरकार ने देश के दूरदराज के इलाकों में शिक्षा और स्वास्थ्य पर खर्च बढ़ाने का फैसला किया है।",
    "รัฐบาลตัดสินใจเพิ่มงบประมาณด้านการศึกษาและสาธารณสุขในพื้นที่ห่างไกลของประเทศ",
    "הממשלה החליטה להגדיל את ההוצאה על חינוך ובריאות באזורים המרוחקים של המדינה.",
    "😀😃😄😁👍🏽❤️🔥🎉🙏🇩🇪👨‍👩‍👧‍👦🚀✨✅❌➡️",
    "“Hello” — he said… ‘it’s’ – no • α-helix β-catenin 5 µm ± 3 °C × 10⁻³ ≥ 4 → x",
)
# Repeated 30 times each: what a tokenizer that folds case, drops controls or answers [UNK] would count too low.
# fmt: off
_UNITS = (
    "Ab ", "aB ", "AB ", "aB", "XQ ", "ZZ ", "I ", "X-", "a.b.", "\n- ", "\n\n\t", "\t ", "\n ", " \n", "x = 1\n",
    "_", "__a", "()", "({[", "\\n", "\"'", "é", "é ", "😀 ", "中 ", "α", "– ", "1 ", "1. ", "1,0", "0x1F", "#1", "qz",
    "xj ", "Jx ", "\x00", "\x01a", "\x7f", "\ufffd", "\u200b", "\u200d", "\ufeff", "\xa0", "\u3000", "\r\n", "\r",
    "\x0c", " \n ", "'s", "I'm ", "<|endoftext|>", "[UNK]", "[CLS] ", "##a ", "ﬁ", "İ", "각", "ᾂ", "\U0001d160",
    "e\u0301", "a\u0300\u0301\u0302", "\U000e0041", "€5 ", "½", "٣", "１", "Ａ", "𝐀", "Ⅷ", "①", "ǅ", " ", "\n", "\t",
    "a", "A", "-", "=", ". ", "|  ", "Kuznets\n",
)
# fmt: on
# fmt: off
_BLOCKS = (
    (0xC0, 0x250), (0x300, 0x370), (0x370, 0x500), (0x600, 0x700), (0x900, 0x980), (0x2000, 0x2C00), (0x4E00, 0x9FA6),
    (0xAC00, 0xD7A4), (0x1F300, 0x1FA00), (0x10000, 0x30000), (1, 0x7F), (1, 0xD800),
)
# fmt: on
_ALPHABETS = (
    string.ascii_lowercase,
    string.ascii_uppercase,
    string.ascii_letters,
    string.ascii_letters + string.digits + "+/",
    string.hexdigits,
    "ACGT",
    string.digits,
    string.punctuation,
    " \n\t",
    " \n\t\r\x0b\x0c\xa0\u3000",
    "bcdfghjklmnpqrstvwxz",
    "XQJZ",
    string.ascii_letters + " ",
    string.ascii_uppercase + "  ",
    string.digits + "  ",
    string.ascii_letters + string.punctuation + "  ",
    *("".join(map(chr, range(*block))) for block in _BLOCKS),
)


@dataclass(frozen=True, slots=True)
class CorpusResult:
    """The estimate on one corpus.

    Attributes:
        corpus: Its name.
        n_texts: Texts counted.
        mean_ratio: Mean of true/estimate.
        p95_ratio: Its 95th percentile.
        max_ratio: Its largest value; above 1.0 the estimate was too low.
        overestimate: Sum of estimates over sum of true counts, less 1.
        n_under: Texts whose estimate was too low.
        n_under_by_tokenizer: Likewise for each tokenizer, in the order of the result's tokenizers.
    """

    corpus: str
    n_texts: int
    mean_ratio: float
    p95_ratio: float
    max_ratio: float
    overestimate: float
    n_under: int
    n_under_by_tokenizer: tuple[int, ...]


def hostile_texts() -> list[str]:
    """Strings on which a careless estimate is too low; the same on every run."""
    source = random.Random(_SEED)
    texts = [unit * 30 for unit in _UNITS]
    texts += ["".join(source.choices(alphabet, k=n)) for alphabet in _ALPHABETS for n in (40, 150)]
    return texts


def _corpora(data: Path, code: Path) -> Iterator[tuple[str, list[str]]]:
    for name in ("scifact", "xquad-en"):
        dataset = load_beir(data / name)
        passages = [normalise(f"{record.title}\n{record.text}".strip()) for record in dataset.corpus]
        passages = random.Random(_SEED).sample(passages, min(_MAX_TEXTS, len(passages)))
        yield f"{name} passages", passages
        yield f"{name} sentences", [text[a:b] for text in passages for a, b in sentence_spans(text)][:_MAX_TEXTS]
        yield f"{name} questions", [normalise(query.text) for query in dataset.queries]
        if name == "xquad-en":
            yield "word lists", _word_lists(passages)
    yield "code", _code_pieces(code)
    yield "languages and symbols", list(_LANGUAGES)
    yield "hostile", hostile_texts()


def _word_lists(passages: Sequence[str]) -> list[str]:
    """The distinct words of five letters or more, sorted, 30 to a list, one a line, and one name 30 times: nothing averages out."""
    words = sorted({word for text in passages for word in re.findall(r"[A-Za-z]{5,}", text)})
    return ["\n".join(words[at : at + 30]) for at in range(0, len(words), 30)] + ["Dmitri Papadopoulos\n" * 30]


def _code_pieces(folder: Path) -> list[str]:
    """Pieces of 40 lines from the folder's source files, in an order drawn once."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in _CODE_SUFFIXES and path.is_file())
    random.Random(_SEED).shuffle(files)
    pieces: list[str] = []
    for path in files:
        if len(pieces) >= _MAX_TEXTS:
            break
        if path.stat().st_size > _MAX_CODE_BYTES:
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        blocks = (
            "\n".join(lines[at : at + _LINES_A_PIECE]) for at in range(0, min(len(lines), 10 * _LINES_A_PIECE), _LINES_A_PIECE)
        )
        pieces += [block for block in blocks if block.strip()]
    return pieces[:_MAX_TEXTS]


def _compare(corpus: str, texts: Sequence[str], estimate: TokenCounter, truths: Sequence[TokenCounter]) -> CorpusResult:
    estimates = [estimate.count(text) for text in texts]
    counts = [[truth.count(text) for truth in truths] for text in texts]
    largest = [max(row) for row in counts]
    ratios = sorted(true / guess for true, guess in zip(largest, estimates, strict=True))
    return CorpusResult(
        corpus=corpus,
        n_texts=len(texts),
        mean_ratio=round(math.fsum(ratios) / len(ratios), 4),
        p95_ratio=round(ratios[math.ceil(0.95 * len(ratios)) - 1], 4),
        max_ratio=round(ratios[-1], 4),
        overestimate=round(sum(estimates) / sum(largest) - 1, 4),
        n_under=sum(ratio > 1 for ratio in ratios),
        n_under_by_tokenizer=tuple(
            sum(row[i] > guess for row, guess in zip(counts, estimates, strict=True)) for i in range(len(truths))
        ),
    )


def _truths(cache: str, files: Sequence[str]) -> list[TokenCounter]:
    truths = [open_counter(name, cache) for name in ("cl100k_base", "o200k_base")]
    truths += [open_counter(file.partition("=")[2]) for file in files]
    if inexact := [truth.name for truth in truths if not truth.exact]:
        raise SystemExit(f"no real counts: {', '.join(inexact)}; give --tiktoken-cache with the vocabulary files")
    return truths


def _write_golden(path: Path, truths: Sequence[TokenCounter], names: Sequence[str]) -> None:
    rows = [json.dumps([text, *(truth.count(text) for truth in truths)]) for text in (*hostile_texts(), *_LANGUAGES)]
    path.write_text("[\n" + ",\n".join([json.dumps(["text", *names]), *rows]) + "\n]\n", encoding="ascii")


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()

    return "worktree" if git("status", "--porcelain") else git("rev-parse", "--short", "HEAD") or "worktree"


def main() -> None:
    """Compare, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tiktoken-cache", required=True)
    parser.add_argument("--tokenizer", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--code", type=Path, default=Path(sysconfig.get_path("purelib")))
    parser.add_argument("--golden", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    truths = _truths(args.tiktoken_cache, args.tokenizer)
    names = ["cl100k_base", "o200k_base", *(file.partition("=")[0] for file in args.tokenizer)]
    if args.golden:
        _write_golden(args.golden, truths, names)
        return
    estimate = open_counter("")
    results = []
    print(f"{'corpus':24}{'n':>6}{'mean':>8}{'p95':>8}{'max':>8}{'over':>8}  under {names}")
    for corpus, texts in _corpora(args.data, args.code):
        r = _compare(corpus, texts, estimate, truths)
        ratios = f"{r.mean_ratio:8.3f}{r.p95_ratio:8.3f}{r.max_ratio:8.3f}"
        print(f"{r.corpus:24}{r.n_texts:6}{ratios}{r.overestimate:8.1%}  {r.n_under_by_tokenizer}")
        results.append(asdict(r))
    out = args.out or Path(__file__).parent / "results" / f"tokens-{_commit()}.json"
    out.write_text(json.dumps({"tokenizers": names, "ratio": "largest true count / estimate", "corpora": results}, indent=1) + "\n")
    print(out)


if __name__ == "__main__":
    main()
