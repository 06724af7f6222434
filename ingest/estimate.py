"""What reading and embedding some files would take, from a sample of them.

A bounded sample, spread over families and files, is read and cut by the same process as in an ingest, and some of its chunks are
embedded. Totals are ratios of the sample times bytes, family by family, with a band that says how far its files differ. What no file of
the sample stands for is named, not guessed.

References:
    Cochran, Sampling Techniques, 1977, chapter 6: the ratio estimate and its variance.
"""

from __future__ import annotations

import math
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from ingest.chunk import chunk_document
from ingest.files import open_file
from ingest.read import Failure, Kind, Origin
from ingest.report import Progress
from ingest.sandbox.job import Job, Work
from ingest.sandbox.pool import Pool
from ingest.walk import FoundFile
from rag.cost import Figure
from rag.embed import Embedder
from rag.errors import InputError
from rag.meter import Meter
from rag.power import Power
from rag.power import Work as Priced
from rag.power.figure import Band
from rag.settings import Settings
from rag.store.vectors import VectorTable, text_digest
from rag.text import indexed_text

_MAX_FILES = 20
_MAX_BYTES = 2_000_000
# A family whose files are all larger than what is left is known by its smallest one, if that is not larger than this.
_MAX_ONE_BYTES = 8_000_000
# Of lines of text the beginning stands for the rest; other formats cannot be cut.
_BY_LINES: frozenset[Kind] = frozenset({"text", "markdown", "csv", "jsonl", "code", "mbox"})
_HEAD_BYTES = 100_000
# One or two files do not say how files differ.
_FEW_FILES, _FEW_FACTOR = 2, 2.0
# What is embedded to see how fast it goes: rounds of calls, one a thread, of so many texts.
_N_ROUNDS, _TEXTS_A_CALL = 3, 8
# The clock of the processor changes, and so do its neighbours: the band of seconds is that much wider on both sides.
_DRIFT = 1.3
# CPU seconds a chunk of the collection, old ones too, for the catalog, duplicates and indexes: 0.6 ms for the pages of docs/.
_REST_S = Band(0.0006, 0.0002, 0.002)


@dataclass(frozen=True, slots=True)
class ToRead:
    """A file that an ingest would read."""

    found: FoundFile
    kind: Kind
    n_bytes: int

    @property
    def sample_bytes(self) -> int:
        """What a sample would read of it."""
        can_cut = self.kind in _BY_LINES and self.found.path.suffix.lower() != ".gz"
        return min(self.n_bytes, _HEAD_BYTES) if can_cut else self.n_bytes


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an ingest would take.

    Attributes:
        n_sampled: Files that were read for it.
        sampled_bytes: Bytes of them that were read.
        n_files: Files to be read.
        n_bytes: Their bytes.
        n_chunks: Chunks of them, before duplicates are collapsed.
        n_embedded: Texts to be embedded; less where chunks are alike.
        cpu_s: CPU seconds of the whole run, without those of an embedder on another machine.
        wall_s: Seconds.
        energy_j: Joules, priced as those of an ingest.
        carbon_g: Grams of CO2 equivalent.
        failed: What of the sample could not be read.
        not_covered: Families of which no file could be sampled: nothing of them is in the figures.
    """

    n_sampled: int
    sampled_bytes: int
    n_files: int
    n_bytes: int
    n_chunks: Band
    n_embedded: Band
    cpu_s: Band
    wall_s: Band
    energy_j: Figure
    carbon_g: Figure
    failed: tuple[Failure, ...]
    not_covered: tuple[Kind, ...]


@dataclass(slots=True)
class _Read:
    """A file of the sample: what was read of it, seconds and texts of its chunks."""

    n_bytes: int
    wall_s: float = 0.0
    texts: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Sample:
    """What came of the sample; ``start_s`` are the CPU seconds before the first file, ``cpu_share`` is CPU by waiting."""

    files: dict[Kind, list[_Read]] = field(default_factory=dict)
    failed: list[Failure] = field(default_factory=list)
    start_s: float = 0.0
    cpu_share: float = 1.0

    @property
    def texts(self) -> list[str]:
        return [text for files in self.files.values() for file in files for text in file.texts]


@dataclass(frozen=True, slots=True)
class _Speed:
    """Seconds a text, of the processor and on the wall with all threads."""

    cpu_s: Band
    wall_s: Band


def choose(files: Sequence[ToRead]) -> list[ToRead]:
    """Choose a sample: evenly spread over each family, as many files of each, within 20 files and 2 MB.

    What a family does not use is left for those that have more files.

    Args:
        files: In the order of the walk.

    Returns:
        Files by family, those of few files first, then in the order of the walk; the same for the same files. A family may be missing
        if its files are large.
    """
    by_kind: dict[Kind, list[ToRead]] = {}
    for file in files:
        if file.n_bytes:  # an empty file stands for no other one
            by_kind.setdefault(file.kind, []).append(file)
    families = sorted(by_kind.items(), key=lambda item: (len(item[1]), item[0]))
    chosen: list[ToRead] = []
    left_bytes = _MAX_BYTES
    for i, (_, family) in enumerate(families):
        n_wanted = min(len(family), max(1, (_MAX_FILES - len(chosen)) // (len(families) - i)))
        share = left_bytes // (len(families) - i)
        taken = []
        for file in (family[(2 * j + 1) * len(family) // (2 * n_wanted)] for j in range(n_wanted)):
            if file.sample_bytes <= share:
                taken.append(file)
                share -= file.sample_bytes
                left_bytes -= file.sample_bytes
        smallest = min(family, key=lambda file: file.sample_bytes)
        chosen += taken or ([smallest] if smallest.sample_bytes <= _MAX_ONE_BYTES else [])
    return chosen


@dataclass(frozen=True, slots=True)
class Estimator:
    """Estimates for one run.

    Attributes:
        settings: Limits.
        embedder: That of the run.
        power: Prices it.
        max_tokens: Of a chunk.
        vectors: Of the embedder, where there are any.
        n_chunks: In the collection now.
    """

    settings: Settings
    embedder: Embedder
    power: Power
    max_tokens: int
    vectors: VectorTable | None
    n_chunks: int

    def estimate(self, files: Sequence[ToRead], start_s: float, progress: Progress, meter: Meter) -> Estimate | None:
        """Read a sample, embed some of it, and extrapolate.

        Args:
            files: What would be read, in the order of the walk.
            start_s: CPU seconds of a run before it looks at files.
            progress: Told of stages and steps.
            meter: Charged with the stages ``read`` and ``embed``.

        Returns:
            The estimate; None where nothing is to be read, or nothing can be sampled.

        Raises:
            ModelError: If the embedder fails.
            RagError: With code ``sandbox``, if no process can be started.
        """
        began_ns = time.monotonic_ns()
        chosen = choose(files)
        pool: Pool[tuple[Kind | None, int]] = Pool(_one_process(self.settings), self.embedder, self.max_tokens)
        with meter.stage("read", child=pool.cpu_ns):
            sample = self._read(chosen, pool, progress)
        if not sample.files:
            return None
        with meter.stage("embed"):
            speed = self._speed(sample.texts, progress)
        return self._extrapolate(files, sample, speed, start_s, began_ns)

    def _read(self, chosen: Sequence[ToRead], pool: Pool[tuple[Kind | None, int]], progress: Progress) -> _Sample:
        """Read the files one after the other, so that the time between two results is that of a file."""
        sample = _Sample()
        progress.begin("sample", len(chosen))
        warm_s = total_s = 0.0
        jobs = _jobs(chosen, self.settings.ingest.max_file_bytes, sample.failed)
        with pool:
            before = time.perf_counter()
            for reading in pool.read(jobs):
                kind, n_bytes = reading.key
                file = _Read(n_bytes)
                failures = []
                for result in reading:
                    if isinstance(result, Failure):
                        failures.append(result)
                        continue
                    document = result.document
                    spans = result.spans
                    if spans is None:
                        spans = chunk_document(document, self.embedder, self.max_tokens)
                    file.texts += [indexed_text(document.title, s.headings, document.text[s.start : s.end]) for s in spans]
                now = time.perf_counter()
                file.wall_s, before = now - before, now
                total_s += file.wall_s
                if kind is None:
                    warm_s += file.wall_s
                    continue
                sample.failed += failures
                sample.files.setdefault(kind, []).append(file)
                progress.advance()
        if total_s:
            sample.cpu_share = pool.cpu_ns() / 1e9 / total_s
            sample.start_s = warm_s * sample.cpu_share
        return sample

    def _speed(self, texts: Sequence[str], progress: Progress) -> _Speed:
        """Embed as an ingest does, several calls at once."""
        n_threads = _n_workers(self.settings)
        n_wanted = min(len(texts), _N_ROUNDS * n_threads * _TEXTS_A_CALL)
        if not n_wanted:
            return _Speed(Band(0, 0, 0), Band(0, 0, 0))
        spread = [texts[(2 * i + 1) * len(texts) // (2 * n_wanted)] for i in range(n_wanted)]
        self.embedder.embed(spread[:1])  # loads what it needs
        progress.begin("time", n_wanted)
        cpu, wall = [], []
        with ThreadPoolExecutor(n_threads) as threads:
            for at in range(0, n_wanted, n_threads * _TEXTS_A_CALL):
                turn = spread[at : at + n_threads * _TEXTS_A_CALL]
                calls = [turn[i : i + _TEXTS_A_CALL] for i in range(0, len(turn), _TEXTS_A_CALL)]
                cpu_began, wall_began = time.process_time(), time.perf_counter()
                list(threads.map(self.embedder.embed, calls))
                cpu.append((time.process_time() - cpu_began) / len(turn))
                wall.append((time.perf_counter() - wall_began) / len(turn))
                progress.advance(len(turn))
        return _Speed(_between(cpu), _between(wall))

    def _extrapolate(self, files: Sequence[ToRead], sample: _Sample, speed: _Speed, start_s: float, began_ns: int) -> Estimate:
        chunks = texts = reading = _exactly(0.0)
        for kind, read in sample.files.items():
            n_bytes = sum(file.n_bytes for file in files if file.kind == kind)
            of_kind = ratio_total([(file.n_bytes, float(len(file.texts))) for file in read], n_bytes)
            chunks = _sum(chunks, of_kind)
            texts = _sum(texts, of_kind.by(self._unembedded([text for file in read for text in file.texts])))
            seconds = ratio_total([(file.n_bytes, file.wall_s * sample.cpu_share) for file in read], n_bytes)
            reading = _sum(reading, Band(seconds.value, seconds.lo / _DRIFT, seconds.hi * _DRIFT))
        n_workers = _n_workers(self.settings)
        reading = _sum(reading, _exactly(sample.start_s * min(n_workers, len(files))))
        alone = _sum(_exactly(start_s), _REST_S.times(self.n_chunks + chunks.value))
        n_parallel = min(n_workers, os.cpu_count() or 1)
        cpu = _sum(alone, reading, texts.by(speed.cpu_s))
        wall = _sum(alone, reading.times(1 / n_parallel), texts.by(speed.wall_s))
        energy, carbon = self._priced(cpu, wall, began_ns)
        return Estimate(
            n_sampled=sum(map(len, sample.files.values())),
            sampled_bytes=sum(file.n_bytes for read in sample.files.values() for file in read),
            n_files=len(files),
            n_bytes=sum(file.n_bytes for file in files),
            n_chunks=chunks,
            n_embedded=texts,
            cpu_s=cpu,
            wall_s=wall,
            energy_j=energy,
            carbon_g=carbon,
            failed=tuple(sample.failed),
            not_covered=tuple(sorted({file.kind for file in files} - sample.files.keys())),
        )

    def _unembedded(self, texts: Sequence[str]) -> Band:
        """Share of some texts that have no vector yet, copies counted once; two standard errors wide."""
        if not texts:
            return _exactly(0.0)
        digests = {text_digest(text) for text in texts}
        n_missing = len(self.vectors.missing(digests) if self.vectors else digests)
        share = n_missing / len(texts)
        error = 2 * math.sqrt(share * (1 - share) / len(texts))
        return Band(share, max(0.0, share - error), min(1.0, share + error))

    def _priced(self, cpu: Band, wall: Band, began_ns: int) -> tuple[Figure, Figure]:
        """Joules and grams of the least, the likely and the most work, each with the band of its price."""
        rss_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        least, likely, most = (
            self.power.energy(Priced(cpu_s, wall_s, wall_s, rss_bytes, began_ns))
            for cpu_s, wall_s in ((cpu.lo, wall.lo), (cpu.value, wall.value), (cpu.hi, wall.hi))
        )
        energy = likely.total._replace(lo=least.total.lo, hi=most.total.hi)
        return energy, likely.carbon._replace(lo=least.carbon.lo, hi=most.carbon.hi)


def ratio_total(sample: Sequence[tuple[int, float]], n_bytes: int) -> Band:
    """Total of a quantity over files, from its ratio to bytes in a sample of them.

    The band is about 95 % wide by the spread of the ratios (Student's t, approximated from above by 2 + 5 / degrees of freedom), less
    the share of the bytes that the sample covers. One or two files of several give half to double.

    Args:
        sample: Bytes and quantity of each file; at least one.
        n_bytes: Of all files, those of the sample included.

    Returns:
        The total; exact when the sample is everything.

    Example:
        >>> ratio_total([(10, 2.0), (10, 2.0), (10, 2.0)], 300)
        Band(value=60.0, lo=60.0, hi=60.0)
    """
    n, seen_bytes, seen = len(sample), sum(size for size, _ in sample), sum(amount for _, amount in sample)
    if seen_bytes >= n_bytes or not seen_bytes:
        return _exactly(seen)
    ratio = seen / seen_bytes
    total = ratio * n_bytes
    if n <= _FEW_FILES:
        return Band(total, max(seen, total / _FEW_FACTOR), total * _FEW_FACTOR)
    spread = sum((amount - ratio * size) ** 2 for size, amount in sample) / (n - 1)
    error = n_bytes / (seen_bytes / n) * math.sqrt((1 - seen_bytes / n_bytes) * spread / n)
    width = (2 + 5 / (n - 1)) * error
    return Band(total, max(seen, total - width), total + width)


def _jobs(chosen: Sequence[ToRead], max_bytes: int, failed: list[Failure]) -> Iterator[Job[tuple[Kind | None, int]]]:
    """The files, and before the first of each family a file of it that only loads what the family needs."""
    warm: set[Kind] = set()
    for file in chosen:
        # What a large one takes hides what the family needs at first.
        for kind in (file.kind,) if file.kind in warm or file.sample_bytes > _HEAD_BYTES else (None, file.kind):
            warm.add(file.kind)
            try:
                opened = open_file(file.found, max_bytes)
            except InputError as error:
                failed.append(Failure(file.found.uri, error.code, str(error)))
                break
            origin = Origin(file.found.path, file.found.doc_id, file.found.uri, opened.mtime)
            handle, n_bytes = opened.handle, opened.n_bytes
            if file.sample_bytes < n_bytes:
                handle, n_bytes = _head(handle)
            yield Job((kind, n_bytes), Work(handle, n_bytes, origin, file.kind))


def _head(handle: int) -> tuple[int, int]:
    """The first whole lines of an open file, which is closed, as a file without a name; and their bytes."""
    with open(handle, "rb") as file, tempfile.TemporaryFile() as part:
        data = file.read(_HEAD_BYTES)
        part.write(data[: data.rfind(b"\n") + 1] or data)
        part.flush()
        return os.dup(part.fileno()), part.tell()


def _n_workers(settings: Settings) -> int:
    return settings.ingest.workers or os.cpu_count() or 1


def _one_process(settings: Settings) -> Settings:
    return replace(settings, ingest=replace(settings.ingest, workers=1))


def _exactly(value: float) -> Band:
    return Band(value, value, value)


def _between(values: Sequence[float]) -> Band:
    return Band(sum(values) / len(values), min(values) / _DRIFT, max(values) * _DRIFT)


def _sum(*bands: Band) -> Band:
    """Ends are added to ends: what is slow for one family is slow for all."""
    return Band(*map(sum, zip(*bands, strict=True)))
