"""PDF files with known truth: a made-up report, printed by LibreOffice and by pdfTeX in two designs, and small ones made by hand.

The reader is tuned on the ``plain`` design and held to its bars on the ``other`` design, with other words, fonts, spacing and
numbering. Nothing is taken from elsewhere: the words come from the short list below.
"""

from __future__ import annotations

import html
import io
import os
import random
import re
import shutil
import subprocess
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from rag.types import Document

Design = Literal["plain", "other"]
Press = Literal["libreoffice", "tex", "tex_columns"]
PartKind = Literal["heading", "paragraph", "item", "table"]

WORDS = """the of and a to in is that for it with as was on are by this be from at which have or an they not but heat pump boiler
    pressure building energy storage temperature efficiency refrigerant installation controller thermostat insulation consumption
    measurement compressor condenser evaporator maintenance documentation responsibility environmental ventilation manufacturer
    first flow official difficult offices final reflects affected floor specific well-insulated long-term air-to-water low-cost
    winter summer house room water power price year month cost report value result system sensor valve circuit radiator engineer
    approximately considerably automatically respectively configuration characteristics requirements performance distribution
    should would could will may can must shows needs takes gives keeps uses holds raises lowers replaces measures""".split()
SHORT = "heat pump cost valve room water price year boiler storage power sensor house flow".split()


@dataclass(frozen=True, slots=True)
class Part:
    """A heading of a level, a paragraph, a list item, or a table."""

    kind: PartKind
    text: str = ""
    level: int = 0
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What was printed; the running head and foot are no part of it."""

    title: str
    running_head: str
    parts: tuple[Part, ...]

    def texts(self, *kinds: PartKind) -> list[str]:
        return [part.text for part in self.parts if part.kind in kinds]

    @property
    def rows(self) -> list[str]:
        return [" | ".join(row) for part in self.parts for row in part.rows]


def made_report(seed: int, n_chapters: int) -> Report:
    """Eight chapters are 17 to 34 pages, about 45 headings and 100 table rows."""
    luck = random.Random(seed)

    def sentence(low: int, high: int) -> str:
        words = [luck.choice(WORDS) for _ in range(luck.randint(low, high))]
        if luck.random() < 0.2:
            words[-1] = luck.choice(("12.5", "(see above)", "20 %", "1,200", "Celsius", "kWh"))
        return " ".join(words).capitalize() + "."

    def paragraph() -> Part:
        return Part("paragraph", " ".join(sentence(6, 22) for _ in range(luck.randint(2, 7))))

    def heading(level: int) -> Part:
        return Part("heading", " ".join(luck.choice(WORDS) for _ in range(luck.randint(2, 6))).capitalize(), level)

    def table() -> Part:
        n_columns = luck.randint(2, 4)
        rows = [tuple(luck.choice(SHORT).capitalize() for _ in range(n_columns))]
        for _ in range(luck.randint(4, 7)):
            cells = [" ".join(luck.choices(SHORT, k=luck.randint(1, 2)))]
            rows.append((*cells, *(str(luck.randint(1, 9999)) for _ in range(n_columns - 1))))
        return Part("table", rows=tuple(rows))

    parts: list[Part] = []
    for _ in range(n_chapters):
        parts.append(heading(1))
        for _ in range(3):
            parts += [paragraph(), paragraph(), heading(2), paragraph(), paragraph()]
            parts += [Part("item", sentence(4, 14)) for _ in range(3)] + [paragraph()]
            parts += [heading(3), paragraph()] if luck.random() < 0.6 else []
        parts += [table(), paragraph(), table(), paragraph()]
    return Report(f"Report on {sentence(3, 5)[:-1].lower()}", "Heat in houses, second volume", tuple(parts))


def program(press: Press) -> str | None:
    """Where the program of a press is; None where it is not installed."""
    return shutil.which("soffice" if press == "libreoffice" else "pdflatex")


@cache
def printed(press: Press, design: Design, seed: int, n_chapters: int, folder: Path) -> bytes:
    """Print a report; one conversion a process for each combination."""
    place = folder / f"{press}-{design}-{seed}-{n_chapters}"
    place.mkdir()
    report = made_report(seed, n_chapters)
    if press == "libreoffice":
        return converted(*(_docx(report) if design == "plain" else _html(report)), place)
    return typeset(_tex(report, design, is_two=press == "tex_columns"), place)


def converted(content: bytes, suffix: str, folder: Path) -> bytes:
    """Content of a file that LibreOffice reads, as PDF."""
    (folder / f"report{suffix}").write_bytes(content)
    # A profile of its own: two runs at once on one profile end without output and without an error.
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    kind = "pdf:writer_web_pdf_Export" if suffix == ".html" else "pdf"
    _run(["soffice", profile, "--headless", "--convert-to", kind, f"report{suffix}"], folder)
    shutil.rmtree(folder / "profile", ignore_errors=True)
    return (folder / "report.pdf").read_bytes()


def typeset(source: str, folder: Path) -> bytes:
    """LaTeX to PDF."""
    (folder / "report.tex").write_text(source, encoding="utf-8")
    _run(["pdflatex", "-interaction=batchmode", "-halt-on-error", "report.tex"], folder)
    return (folder / "report.pdf").read_bytes()


def _run(command: list[str], folder: Path) -> None:
    # HOME: neither program may leave its caches outside the folder.
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=180, check=False, env={**os.environ, "HOME": str(folder)}
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def _docx(report: Report) -> tuple[bytes, str]:
    import docx
    from docx.enum.text import WD_ALIGN_PARAGRAPH
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn

    file = docx.Document()
    file.core_properties.title, file.core_properties.author = report.title, "A. Writer"
    head = file.sections[0]
    head.header.paragraphs[0].text = report.running_head
    foot = head.footer.paragraphs[0]
    foot.alignment = WD_ALIGN_PARAGRAPH.CENTER
    field = OxmlElement("w:fldSimple")
    field.set(qn("w:instr"), "PAGE")
    foot._p.append(field)  # the library has no call for a page number
    for part in report.parts:
        if part.kind == "heading":
            file.add_heading(part.text, part.level)
        elif part.kind == "table":
            table = file.add_table(0, len(part.rows[0]), style="Table Grid")
            for row in part.rows:
                for cell, text in zip(table.add_row().cells, row, strict=True):
                    cell.text = text
        else:
            file.add_paragraph(part.text, style="List Bullet" if part.kind == "item" else None)
    content = io.BytesIO()
    file.save(content)
    return content.getvalue(), ".docx"


def _html(report: Report) -> tuple[bytes, str]:
    """A page in a serif face, justified, with tables without lines; no running head."""
    style = """body {font-family: "DejaVu Serif"; font-size: 9pt} p {text-align: justify; margin-bottom: 0.2cm}
        h1 {font-size: 15pt} h2 {font-size: 12pt; font-style: italic} h3 {font-size: 10pt} td {padding: 0.1cm}"""
    lines = [f"<html><head><title>{html.escape(report.title)}</title><style>{style}</style></head><body>"]
    for before, part in zip((None, *report.parts), report.parts, strict=False):
        is_first = before is None or before.kind != part.kind
        lines += ["</ul>"] if before is not None and before.kind == "item" and is_first else []
        if part.kind == "table":
            rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in part.rows)
            lines.append(f"<table width='80%'>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>")
            continue
        tag = {"heading": f"h{part.level}", "paragraph": "p", "item": "li"}[part.kind]
        lines += ["<ul>"] if part.kind == "item" and is_first else []
        lines.append(f"<{tag}>{html.escape(part.text)}</{tag}>")
    return "\n".join([*lines, "</body></html>"]).encode(), ".html"


_SECTIONS = {1: "section", 2: "subsection", 3: "subsubsection"}


def _tex(report: Report, design: Design, *, is_two: bool) -> str:
    is_plain = design == "plain"
    options = ("10pt,a4paper" if is_plain else "11pt,a4paper") + (",twocolumn" if is_two and is_plain else "")
    lines = [rf"\documentclass[{options}]{{article}}", r"\usepackage{multicol,fancyhdr}", r"\pagestyle{fancy}\fancyhf{}"]
    lines += [rf"\lhead{{{report.running_head}}}\cfoot{{\thepage}}\setlength{{\headheight}}{{14pt}}"]
    if not is_plain:
        lines += [r"\renewcommand{\familydefault}{\sfdefault}\setlength{\parindent}{0pt}\setlength{\parskip}{6pt}"]
        lines += [r"\rhead{page \thepage}\usepackage[margin=2cm]{geometry}" if _has("geometry.sty") else r"\rhead{page \thepage}"]
    lines += [rf"\pdfinfo{{/Title ({report.title}) /Author (A. Writer)}}", r"\begin{document}"]
    lines += [r"\begin{multicols}{2}"] if is_two and not is_plain else []
    lines += [_tex_part(part, is_plain) for part in report.parts]
    lines += [r"\end{multicols}"] if is_two and not is_plain else []
    text = "\n\n".join([*lines, r"\end{document}"])
    return text.replace("\\end{itemize}\n\n\\begin{itemize}", "")


def _tex_part(part: Part, is_plain: bool) -> str:
    text = re.sub(r"([%&#_])", r"\\\1", part.text)
    if part.kind == "heading":
        return rf"\{_SECTIONS[part.level]}{'' if is_plain else '*'}{{{text}}}"
    if part.kind == "item":
        return rf"\begin{{itemize}}\item {text}" + "\n\\end{itemize}"
    if part.kind == "table":
        rule = "|" if is_plain else ""
        rows = (" & ".join(row) + r" \\" + (r"\hline" if is_plain else "") for row in part.rows)
        columns = rule + rule.join("l" + "r" * (len(part.rows[0]) - 1)) + rule
        return rf"\begin{{center}}\begin{{tabular}}{{{columns}}}" + "\n".join(rows) + r"\end{tabular}\end{center}"
    return text


@cache
def _has(style: str) -> bool:
    return bool(subprocess.run(["kpsewhich", style], capture_output=True, check=False).stdout.strip())


@dataclass(frozen=True, slots=True)
class Score:
    """Shares found, 0 to 1, and what was called a heading or row and is none.

    A paragraph or item counts when one section, or one line of a list, is that text and nothing else; a heading or row likewise in a
    section of its kind. Numbers that LaTeX puts before headings are no part of them.
    """

    paragraphs: float
    items: float
    headings: float
    rows: float
    n_false_headings: int
    n_false_rows: int


def scored(document: Document, report: Report) -> Score:
    """Compare what was read with what was printed."""
    texts = {
        kind: [document.text[s.start : s.end] for s in document.sections if s.kind == kind]
        for kind in ("prose", "heading", "table")
    }
    prose = set(texts["prose"])
    items = {line.removeprefix("- ") for text in prose for line in text.split("\n")}
    headings = {re.sub(r"^[\d.]+ ", "", text) for text in texts["heading"]}
    rows = {row for text in texts["table"] for row in text.split("\n")}
    return Score(
        _share(report.texts("paragraph"), prose),
        _share(report.texts("item"), items),
        _share(report.texts("heading"), headings),
        _share(report.rows, rows),
        len(headings - set(report.texts("heading"))),
        len(rows - set(report.rows)),
    )


def _share(wanted: Sequence[str], found: set[str]) -> float:
    return sum(text in found for text in wanted) / len(wanted)


@dataclass(frozen=True, slots=True)
class Shown:
    """A piece of text at a place of a page, in points from its lower left corner."""

    x: float
    y: float
    text: str
    size: float = 10
    is_bold: bool = False


def content_of(shown: Sequence[Shown]) -> bytes:
    """Content stream that draws text in this order."""
    escaped = ((s, re.sub(r"([\\()])", r"\\\1", s.text)) for s in shown)
    return "\n".join(f"BT /F{1 + s.is_bold} {s.size} Tf {s.x} {s.y} Td ({text}) Tj ET" for s, text in escaped).encode("latin-1")


def small_pdf(
    contents: Sequence[bytes],
    *,
    info: str = "",
    trailer: str = "",
    is_packed: bool = False,
    page: str = "",
    extra: Sequence[tuple[str, bytes]] = (),
) -> bytes:
    """A PDF of A4 pages with Helvetica and Helvetica-Bold, made without any program.

    ``page`` goes into the dictionaries of all pages and overrides what is there; ``extra`` are streams with their dictionaries, whose
    numbers go on from 5 + 2 * pages.
    """
    n = len(contents)
    kids = " ".join(f"{5 + 2 * no} 0 R" for no in range(n))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {n} >>".encode(),
        b"<< /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> /F2 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold >> >>",
        f"<< {info} >>".encode("latin-1"),
    ]
    streams = [("", content) for content in contents] + list(extra)
    for no, (entries, content) in enumerate(streams):
        body = zlib.compress(content) if is_packed else content
        head = f"<< {entries} /Length {len(body)}{' /Filter /FlateDecode' if is_packed else ''} >>\nstream\n".encode()
        if no < n:
            own = f"/MediaBox [0 0 595 842] /Resources << /Font 3 0 R >> /Contents {6 + 2 * no} 0 R {page}"
            objects.append(f"<< /Type /Page /Parent 2 0 R {own} >>".encode())
        objects.append(head + body + b"\nendstream")
    data = b"%PDF-1.7\n"
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(len(data))
        data += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R /Info 4 0 R {trailer} >>"
    return data + f"{end}\nstartxref\n{len(data)}\n%%EOF\n".encode()
