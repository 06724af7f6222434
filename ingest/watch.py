"""`rag ingest --watch`: an ingest whenever something in the folders changed, until somebody says stop.

Events of the file system only say that it is time to look: what changed is seen by walking the folders by the same rules as an ingest,
so what `.ragignore` and the globs leave out starts nothing, whatever the events were. The watcher listens before the first ingest, and
while one runs, so no change is missed; many changes in that time lead to one more run. Nothing is locked between runs.

References:
    watchfiles: on file systems without events, such as those of a network, set WATCHFILES_FORCE_POLLING=true.
"""

from __future__ import annotations

import hashlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ingest.report import IngestRequest
from ingest.walk import IGNORE_NAME, FoundFile, walk
from rag.errors import InputError, MissingExtraError, RagError

# Changes are taken when nothing has changed for so long, so that a file is not read while it is being written ...
_QUIET_MS = 250
# ... but of a folder that never rests, after so long.
_MAX_QUIET_MS = 5_000
# A server or a lock that was in the way may be back by then; a change tries again at once.
_RETRY_S = 30.0
# An empty folder, or globs that match nothing, are a mistake of one who ingests once; a watched folder may be filled later.
_EMPTY_CODES = frozenset({"nothing_to_ingest", "bad_glob"})


def check_watch(request: IngestRequest) -> None:
    """Refuse what cannot be watched.

    Args:
        request: What is to be ingested.

    Raises:
        InputError: If it names an address, or a file: what replaces a file, as editors do, is not seen by who watches it.
        MissingExtraError: Without the extra ``[watch]``.
    """
    if request.urls:
        raise InputError(
            f"--watch: {request.urls[0]} is an address, and nobody tells when a page changes; leave out --watch", code="usage"
        )
    for path in request.paths:
        if path.is_file():
            raise InputError(f"--watch: {path} is a file; give its folder, with --include {path.name!r}", code="usage")
    try:
        import watchfiles  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise MissingExtraError("rag ingest --watch", "watch") from error


def keep_in_step(
    request: IngestRequest,
    data_dir: Path,
    run: Callable[[], None],
    tell: Callable[[RagError], None],
    stop: threading.Event,
    *,
    quiet_ms: int = _QUIET_MS,
) -> None:
    """Ingest now, and again whenever there is something else to ingest.

    A run that failed is tried again at the next change, or after half a minute.

    Args:
        request: Folders, and what of them is wanted.
        data_dir: What happens there is no change.
        run: Ingests; in the calling thread.
        tell: Told of each run that failed.
        stop: Ends the watch, after the run that is going on.
        quiet_ms: Milliseconds without a change after which changes are taken; at least 1.

    Raises:
        InputError: If the request is wrong, or a folder is gone; that there is nothing to ingest is only told.
        RagError: With code ``watch``, if the folders cannot be watched.
    """
    done = b""
    due_s = 0.0
    n_runs = 0
    for has_changes in _turns(request, data_dir, stop, quiet_ms):
        if not has_changes and time.monotonic() < due_s:
            continue
        due_s = math.inf
        try:
            state = folder_state(request)
            if state == done:
                continue
            n_runs += 1
            run()
            done = state
        except BrokenPipeError:
            raise
        except (RagError, OSError) as error:
            trouble = error if isinstance(error, RagError) else _io_error(error)
            if _is_wrong_usage(trouble, is_first=n_runs <= 1):
                raise
            tell(trouble)
            done, due_s = b"", time.monotonic() + _RETRY_S
        if stop.is_set():
            return


def folder_state(request: IngestRequest) -> bytes:
    """Tell whether an ingest would find anything else than another time, without opening a file.

    Args:
        request: Folders and globs.

    Returns:
        Digest of names, sizes and times of the files that the walk finds, and of what it reports; never empty.

    Raises:
        InputError: As `ingest.walk.walk`.
    """
    digest = hashlib.sha256()
    for found in walk(request.paths, request.include, request.exclude, request.prefix):
        if isinstance(found, FoundFile):
            try:
                status = os.stat(found.path)
                # The change time also tells of a copy that kept the time of its original.
                seen = f"{found.doc_id}\0{status.st_ino} {status.st_size} {status.st_ctime_ns}"
            except OSError as error:
                seen = f"{found.doc_id}\0{error.errno}"
        else:
            seen = f"{found.path}\0{found.code}"
        digest.update(seen.encode("utf-8", "surrogatepass") + b"\0")
    return digest.digest()


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """Let SIGINT and SIGTERM ask for an end; the second one does what it always does. To be used in the main thread.

    Yields:
        Set by the first signal.
    """
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        restore()


def _turns(request: IngestRequest, data_dir: Path, stop: threading.Event, quiet_ms: int) -> Iterator[bool]:
    """Whether something happened, whenever it did and from time to time; first of all when the watcher listens."""
    from watchfiles import Change, watch

    roots = [Path(os.path.realpath(path)) for path in request.paths]
    own = Path(os.path.realpath(data_dir))

    def may_matter(change: Change, name: str) -> bool:
        path = Path(name)
        if path.is_relative_to(own):
            return False
        below = [path.relative_to(root).parts for root in roots if path.is_relative_to(root)]
        return path.name == IGNORE_NAME or any(not any(part.startswith(".") for part in parts) for parts in below)

    try:
        for changes in watch(
            *roots,
            watch_filter=may_matter,
            debounce=_MAX_QUIET_MS,
            step=quiet_ms,
            stop_event=stop,
            rust_timeout=2 * quiet_ms,
            yield_on_timeout=True,
            ignore_permission_denied=True,  # the walk reports it
        ):
            yield bool(changes)
    except (OSError, RuntimeError) as error:
        raise RagError(
            f"{', '.join(map(str, roots))} cannot be watched: {error}; watch fewer folders, raise fs.inotify.max_user_watches, "
            "or set WATCHFILES_FORCE_POLLING=true",
            code="watch",
        ) from error


def _io_error(error: OSError) -> RagError:
    return RagError(f"{error.filename or 'a file'} cannot be read or written: {error.strerror}; check the disk", code="io")


def _is_wrong_usage(error: RagError, *, is_first: bool) -> bool:
    if error.code == "nothing_to_ingest" or (error.code in _EMPTY_CODES and not is_first):
        return False
    return error.exit_code == InputError.exit_code
