"""A corpus of many bytes and little text, ingested by the command line as a user does it, and the memory that this takes.

Readers must get through all bytes: pictures in PDF, DOCX and HTML, attachments of mail, white space, empty cells, archives. Text is
little, because its embedding would take hours and is measured elsewhere.
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.machine import CHECKOUT
from bench.process_tree import Watch
from tests.made import pdf
from tests.made.families import tar_bytes
from tests.made.office import docx_bytes, made_text, zip_bytes

_MB = 1_000_000
_SIDE = 1_000


@dataclass(frozen=True, slots=True)
class CorpusRun:
    """One ingest.

    Attributes:
        n_bytes: Of all files.
        n_files: How many.
        largest_bytes: Of the largest file.
        n_chunks: In the collection.
        n_failed: Failures that the command reported.
        seconds: Wall-clock.
        peak_sum_bytes: Largest sum of resident memory of parent and children at one moment; the bar for it is 1.5 GB.
        peak_parent_bytes: Of the parent.
        peak_child_bytes: Of one child.
        n_processes: Started to read.
    """

    n_bytes: int
    n_files: int
    largest_bytes: int
    n_chunks: int
    n_failed: int
    seconds: float
    peak_sum_bytes: int
    peak_parent_bytes: int
    peak_child_bytes: int
    n_processes: int


def _noise(luck: random.Random, megabytes: int) -> bytes:
    return luck.randbytes(megabytes * _MB)


def _prose(luck: random.Random, n: int = 3) -> str:
    return "\n\n".join(" ".join(luck.choices(pdf.WORDS, k=60)) + "." for _ in range(n))


def _pdf(luck: random.Random) -> bytes:
    """Eight pages, each with a picture of a megabyte in its content."""
    picture = b"q 200 0 0 200 100 100 cm\nBI /W %d /H %d /CS /G /BPC 8 ID " % (_SIDE, _SIDE)
    pages = []
    for _ in range(8):
        lines = [pdf.Shown(72, 800 - 14 * i, line) for i, line in enumerate(_prose(luck).splitlines())]
        pages.append(pdf.content_of(lines) + b"\n" + picture + _noise(luck, 1) + b"\nEI Q")
    return pdf.small_pdf(pages)


def _docx(luck: random.Random) -> bytes:
    stream = io.BytesIO(docx_bytes(made_text("plain", luck.randrange(1_000_000), n_chapters=1), "plain"))
    with zipfile.ZipFile(stream, "a") as archive:
        for number in range(10):
            archive.writestr(f"word/media/image{number}.png", _noise(luck, 1))
    return stream.getvalue()


def _jsonl(luck: random.Random) -> bytes:
    """Records padded with white space, as fixed-width exports are."""
    return b"".join(
        json.dumps({"_id": f"{luck.random()}", "text": _prose(luck, 1)}).encode()[:-1] + b" " * 300_000 + b"}\n" for _ in range(100)
    )


def _csv(luck: random.Random) -> bytes:
    """A thousand columns, most of them empty."""
    rows = [",".join(["name", "note", *(f"c{i}" for i in range(998))])]
    for number in range(12_000):
        note = _prose(luck, 1) if number % 200 == 0 else ""
        rows.append(f"{note}{',' * 999}")
    return "\n".join(rows).encode()


def _html(luck: random.Random) -> bytes:
    image = base64.b64encode(_noise(luck, 3)).decode()
    return "".join(f"<h2>Part {i}</h2><p>{_prose(luck, 1)}</p><img src='data:image/png;base64,{image}'>" for i in range(4)).encode()


def _text(luck: random.Random) -> bytes:
    return "".join(_prose(luck, 1) + "\n" * 100_000 for _ in range(40)).encode()


def _eml(luck: random.Random) -> bytes:
    attached = base64.encodebytes(_noise(luck, 8))
    head = b'Subject: Pictures\nContent-Type: multipart/mixed; boundary="b"\n\n--b\nContent-Type: text/plain\n\n'
    middle = b"\n--b\nContent-Type: image/png; name=a.png\nContent-Transfer-Encoding: base64\n\n"
    return head + _prose(luck).encode() + middle + attached + b"--b--\n"


def _zip(luck: random.Random) -> bytes:
    return zip_bytes({"a.pdf": _pdf(luck), "b.docx": _docx(luck), "c.html": _html(luck), "d.eml": _eml(luck)})


def _tar(luck: random.Random) -> bytes:
    return tar_bytes({"a.eml": _eml(luck), "b.docx": _docx(luck)}, "w:gz")


_MAKERS: dict[str, Callable[[random.Random], bytes]] = {
    "pdf": _pdf, "docx": _docx, "jsonl": _jsonl, "csv": _csv, "html": _html, "txt": _text, "eml": _eml, "zip": _zip, "tar.gz": _tar,
}  # fmt: skip


def write_corpus(folder: Path, n_bytes: int) -> list[int]:
    """Write files in turns of the families until there are enough bytes, the same for the same size.

    Args:
        folder: For them.
        n_bytes: At least so many in all.

    Returns:
        Sizes of the files.
    """
    sizes: list[int] = []
    while sum(sizes) < n_bytes:
        kind = list(_MAKERS)[len(sizes) % len(_MAKERS)]
        content = _MAKERS[kind](random.Random(len(sizes)))
        (folder / f"{len(sizes):04}.{kind}").write_bytes(content)
        sizes.append(len(content))
    return sizes


def ingested(n_bytes: int, place: Path) -> CorpusRun:
    """Make a corpus and ingest it by a process of its own.

    Args:
        n_bytes: Of its files.
        place: Folder for the corpus and the data directory.

    Returns:
        What it took.

    Raises:
        SystemExit: If the command fails.
    """
    corpus = place / "corpus"
    corpus.mkdir()
    sizes = write_corpus(corpus, n_bytes)
    command = [sys.executable, "-P", "-m", "rag", "--data-dir", str(place / "data"), "ingest", str(corpus), "--json"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAG_")} | {"PYTHONPATH": str(CHECKOUT)}
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with process, Watch(process.pid) as watch:
        out, _ = process.communicate()
    if process.returncode not in (0, 3):
        raise SystemExit(f"rag ingest ended with status {process.returncode}: {out[-400:]}")
    report = json.loads(out)
    return CorpusRun(
        n_bytes=sum(sizes),
        n_files=len(sizes),
        largest_bytes=max(sizes),
        n_chunks=report["n_chunks"],
        n_failed=len(report["failed"]),
        seconds=round(time.perf_counter() - began, 1),
        peak_sum_bytes=watch.peak_sum_bytes,
        peak_parent_bytes=watch.peak_own_bytes,
        peak_child_bytes=watch.peak_child_bytes,
        n_processes=len(watch.children),
    )
