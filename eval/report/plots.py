"""Plots as SVG and PNG: quality against cost, and cost by stage. The same values give the same bytes.

Colours are of a fixed list, so that a page can swap each for a variable of its style sheet (`inline`) and follow the reader's light or
dark mode. Marks, not colours, tell measured from modelled joules, and every point has its name beside it.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eval.metrics import COST_METRICS
from eval.report.figures import CostKind, Entry, Point, Scatter, Stages, View, scatters, stages
from eval.suite import NO_MODEL
from rag.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Name of the style sheet's variable, then its colour on light and on dark paper. The series keep apart in the common colour
# deficiencies (after Okabe and Ito) and stand out from their paper by 3:1 or more.
PALETTE = (
    ("paper", "#ffffff", "#15181d"),
    ("ink", "#1b1f24", "#e6e8eb"),
    ("muted", "#5c6470", "#9aa3af"),
    ("grid", "#dde1e6", "#30363d"),
    ("none", "#6b7280", "#a3acb8"),
    ("c0", "#0069a8", "#58b4ee"),
    ("c1", "#c2500a", "#ff9a57"),
    ("c2", "#00775a", "#3ecf9f"),
    ("c3", "#9c3f86", "#e397d0"),
    ("c4", "#8a6d00", "#e5c352"),
    ("c5", "#5a4fcf", "#aaa2ff"),
    ("c6", "#8c4a36", "#d99a84"),
)
_COLOURS = {name: light for name, light, _ in PALETTE}
_SERIES = tuple(light for name, light, _ in PALETTE if re.fullmatch(r"c\d", name))
_MARKS = {"measured": "o", "apportioned": "s", "modelled": "D", "assumed": "^"}
# Filled marks; the others are hollow.
_STRONG = ("measured", "apportioned")
_AXES: dict[CostKind, str] = {
    "energy_j": "joules per answer (logarithmic)",
    "cpu_s": "CPU seconds per answer (logarithmic)",
    "prompt_tokens": "tokens that language models read, per answer",
    "context_tokens": "tokens of the packed context, per answer",
}
_NAME_LENGTH = 30
# Height of a name beside the plot as a share of the plot: 8 point text in 2.6 inch.
_NAME_HEIGHT = 0.06


@dataclass(frozen=True, slots=True)
class Plot:
    """A finished plot.

    Attributes:
        name: Unique among the plots of a report; letters, digits, ``.``, ``_`` and ``-``.
        data: Data set.
        title: One line.
        description: What is to be seen, in words, for who does not see it.
        svg: A whole file.
        png: A whole file; empty unless asked for.
    """

    name: str
    data: str
    title: str
    description: str
    svg: str
    png: bytes


def draw(views: Sequence[View], *, with_png: bool) -> tuple[Plot, ...]:
    """Draw all plots. Not for several threads at once: the drawing library keeps its settings per process.

    Args:
        views: One a data set.
        with_png: Whether to make pixels too.

    Returns:
        By data set: quality against cost in the order of `scatters`, then cost by stage.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    plots: list[Plot] = []
    with _style():
        for view in views:
            for scatter in scatters(view):
                stem = _file_name(f"{len(plots) + 1:02}-{scatter.metric}-{scatter.kind}-{view.data}")
                title = f"{scatter.metric} against {_AXES[scatter.kind]}: {view.data}"
                plots.append(_plot(_scatter_figure(scatter), stem, view.data, (title, _in_words(scatter)), with_png=with_png))
            for bars in stages(view):
                unit = "joules" if bars.unit == "J" else "CPU seconds"
                words = "; ".join(
                    f"{entry.name} {sum(part):.3g} {bars.unit}" for entry, part in zip(bars.entries, bars.parts, strict=True)
                )
                stem = _file_name(f"{len(plots) + 1:02}-stages-{bars.unit}-{view.data}")
                title = f"{unit} per answer by stage: {view.data}"
                plots.append(_plot(_stage_figure(bars), stem, view.data, (title, words), with_png=with_png))
    return tuple(plots)


def inline(plot: Plot) -> str:
    """Make a plot part of a page: colours become variables of the style sheet, names of parts are made unique, no address is left."""
    prefix = f"{re.sub(r'[^a-z0-9]+', '-', plot.name.lower())}-"
    svg = plot.svg[plot.svg.index("<svg") :]
    box = re.search(r'viewBox="([\d. ]+)"', svg)
    root = f'<svg viewBox="{box[1] if box else ""}" role="img" aria-labelledby="{prefix}title {prefix}desc">'
    svg = re.sub(r"<svg[^>]*>", root, svg, count=1)
    svg = re.sub(r"<style\b.*?</style>", "", svg, flags=re.DOTALL)
    head, body = svg[: len(root)], svg[len(root) :]
    body = re.sub(
        r'\s*\n\s*| id="[a-z]\w*_\d+"| transform="rotate\(-0 [^"]*"', lambda found: "\n" if found[0].isspace() else "", body
    )
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", body)
    body = re.sub(r' (?:d|x|y|transform)="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), body)
    return head + re.sub(r"#[0-9a-f]{6}\b", lambda found: _VARIABLES.get(found[0], found[0]), body)


_VARIABLES = {light: f"var(--{name})" for name, light, _ in PALETTE}


def _in_words(scatter: Scatter) -> str:
    said = (
        f"{point.entry.name}: {point.quality:.3f} at {point.cost:.3g} ({point.method}){', on the frontier' if n in scatter.frontier else ''}"
        for n, point in enumerate(scatter.points)
    )
    return "; ".join((*said, *(f"not drawn: {one}" for one in scatter.missing)))


def _file_name(text: str) -> str:
    """A name without a path in it: what comes from a result file may hold anything."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text.replace("@", "_at_"))[:100]


def _plain(text: str) -> str:
    """A name that can be drawn: cut in the middle, without what has no shape."""
    text = _drawable(text)
    half = _NAME_LENGTH // 2
    return text if len(text) <= _NAME_LENGTH else f"{text[: half - 1]}\N{HORIZONTAL ELLIPSIS}{text[-half:]}"


@contextmanager
def _style() -> Iterator[None]:
    """The library's own defaults and ours, whatever the user's matplotlibrc says; put back afterwards."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingExtraError("a report with plots", "eval") from error
    with mpl.rc_context(), warnings.catch_warnings():
        # Names may be in any script; the browser has the letters that the font of the PNG lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update({
            "svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"], "svg.hashsalt": "ragwatt", "text.parse_math": False,
            "font.size": 8.0, "axes.titlesize": 8.0,
            "text.color": _COLOURS["ink"], "axes.labelcolor": _COLOURS["ink"], "axes.edgecolor": _COLOURS["muted"],
            "xtick.color": _COLOURS["muted"], "ytick.color": _COLOURS["muted"], "grid.color": _COLOURS["grid"], "grid.linewidth": 0.6,
            "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "legend.frameon": False,
            "figure.facecolor": _COLOURS["paper"], "axes.facecolor": _COLOURS["paper"], "axes.unicode_minus": False,
        })  # fmt: skip
        yield


def _plot(figure: Figure, name: str, data: str, words: tuple[str, str], *, with_png: bool) -> Plot:
    title, description = words
    drawn, pixels = io.StringIO(), io.BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    if with_png:
        figure.savefig(
            pixels,
            format="png",
            dpi=150,
            metadata={"Software": None},
        )
    head = "".join(
        f'<{tag} id="{tag}">{html.escape(_drawable(text))}</{tag}>' for tag, text in (("title", title), ("desc", description))
    )
    svg = re.sub(r"<svg[^>]*>", lambda root: root[0] + head, drawn.getvalue(), count=1)
    return Plot(name, data, title, description, svg, pixels.getvalue())


def _drawable(text: str) -> str:
    """Without what XML refuses."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _figure(height: float, left: float = 0.1) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, height))
    return figure, figure.add_axes((left, 0.5 / height, 0.58, 1 - 0.8 / height))


def _scatter_figure(scatter: Scatter) -> Figure:
    figure, axes = _figure(3.6)
    is_log = scatter.kind in COST_METRICS
    _limits(axes, scatter, is_log=is_log)
    colours = _colours([point.entry for point in scatter.points])
    best = [scatter.points[n] for n in scatter.frontier]
    if len(best) > 1:
        line = ([point.cost for point in best], [point.quality for point in best])
        axes.plot(*line, drawstyle="steps-post", color=_COLOURS["muted"], linewidth=2.5, alpha=0.45, label="frontier", zorder=1.5)
    for pipeline in dict.fromkeys(point.entry.pipeline for point in scatter.points):
        of_it = [point for point in scatter.points if point.entry.pipeline == pipeline]
        way = ([point.cost for point in of_it], [point.quality for point in of_it])
        axes.plot(*way, linestyle=":", linewidth=0.9, color=colours[pipeline], zorder=2)
    for point in scatter.points:
        _mark(axes, point, colours[point.entry.pipeline])
    _names(axes, scatter.points, colours)
    methods = [method for method in _MARKS if method in {point.method for point in scatter.points}]
    for method in methods if scatter.kind == "energy_j" else ():
        face = _COLOURS["muted" if method in _STRONG else "paper"]
        axes.plot([], [], _MARKS[method], color=_COLOURS["muted"], markerfacecolor=face, markersize=5, label=method)
    axes.set_xlabel(_AXES[scatter.kind])
    axes.set_ylabel(f"{scatter.metric} (higher is better)")
    axes.grid(visible=True)
    if axes.get_legend_handles_labels()[1]:
        figure.legend(loc="upper left", bbox_to_anchor=(0.09, 1.0), ncols=5, handlelength=1.6)
    return figure


def _limits(axes: Axes, scatter: Scatter, *, is_log: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    costs = [end for point in scatter.points for end in (point.cost, point.cost_lo, point.cost_hi) if end is not None]
    heights = [end for point in scatter.points for end in (point.quality, point.quality_lo, point.quality_hi) if end is not None]
    if is_log:
        axes.set_xscale("log")
        positive = [cost for cost in costs if cost > 0]
        axes.set_xlim(min(positive) / 1.3, max(positive) * 1.3)
        is_wide = max(positive) / min(positive) > 1000
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if is_wide else (1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(-0.02 * max(costs), 1.08 * max(1.0, *costs))
    room = max(0.02, 0.12 * (max(heights) - min(heights)))
    axes.set_ylim(min(heights) - room, max(heights) + room)


def _mark(axes: Axes, point: Point, colour: str) -> None:
    floor = axes.get_xlim()[0]
    across = None if point.cost_lo is None or point.cost_hi is None else _arms(point.cost, max(point.cost_lo, floor), point.cost_hi)
    up = None if point.quality_lo is None or point.quality_hi is None else _arms(point.quality, point.quality_lo, point.quality_hi)
    axes.errorbar(
        [point.cost], [point.quality], xerr=across, yerr=up, fmt=_MARKS.get(point.method, "x"), color=colour, markersize=6.5,
        markerfacecolor=colour if point.method in _STRONG else _COLOURS["paper"], markeredgewidth=1.4, elinewidth=1.0, capsize=2, zorder=3,
    )  # fmt: skip


def _arms(value: float, lo: float, hi: float) -> list[list[float]]:
    return [[max(0.0, value - lo)], [max(0.0, hi - value)]]


def _names(axes: Axes, points: Sequence[Point], colours: dict[str, str]) -> None:
    """Names in a column beside the plot, in the order of their points, each tied to its point by a thin line."""
    bottom, top = axes.get_ylim()
    places = spread([(point.quality - bottom) / (top - bottom) for point in points], _NAME_HEIGHT)
    for point, place in zip(points, places, strict=True):
        colour = colours[point.entry.pipeline]
        axes.annotate(
            _plain(point.entry.name), (point.cost, point.quality), (1.04, place), textcoords="axes fraction", va="center", color=colour,
            annotation_clip=False, arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.5, "shrinkB": 5},
        )  # fmt: skip


def spread(places: Sequence[float], gap: float) -> tuple[float, ...]:
    """Move places apart as little as a single pass up and one down allow, so that names do not lie on each other.

    Args:
        places: Heights, 0.0 to 1.0.
        gap: Least distance; less where there are too many for it.

    Returns:
        New heights in the order of ``places``, which they keep; ties keep theirs.
    """
    gap = min(gap, 1.0 / max(1, len(places)))
    order = sorted(range(len(places)), key=lambda n: places[n])
    moved = list(places)
    for below, above in zip(order, order[1:], strict=False):
        moved[above] = max(moved[above], moved[below] + gap)
    ceiling = 1.0
    for n in reversed(order):
        moved[n] = min(moved[n], ceiling)
        ceiling = moved[n] - gap
    return tuple(moved)


def _colours(entries: Sequence[Entry]) -> dict[str, str]:
    names = [name for name in dict.fromkeys(entry.pipeline for entry in entries) if name != NO_MODEL]
    return {NO_MODEL: _COLOURS["none"], **{name: _SERIES[n % len(_SERIES)] for n, name in enumerate(names)}}


def _stage_figure(bars: Stages) -> Figure:
    figure, axes = _figure(1.1 + 0.26 * len(bars.entries), left=0.32)
    rows = range(len(bars.entries))
    left = [0.0] * len(bars.entries)
    colours = (*_SERIES[: len(bars.names) - 1], _COLOURS["none"])
    for n, (name, colour) in enumerate(zip(bars.names, colours, strict=True)):
        widths = [part[n] for part in bars.parts]
        axes.barh(rows, widths, left=left, color=colour, edgecolor=_COLOURS["paper"], linewidth=0.8, label=_plain(name))
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(rows, [_plain(entry.name) for entry in bars.entries])
    axes.tick_params(axis="y", left=False, labelcolor=_COLOURS["ink"])
    axes.invert_yaxis()
    axes.grid(visible=True, axis="x")
    axes.set_xlabel("joules per answer" if bars.unit == "J" else "CPU seconds per answer")
    figure.legend(loc="upper left", bbox_to_anchor=(0.09, 1.0), ncols=4, handlelength=1.0, columnspacing=1.2)
    return figure
