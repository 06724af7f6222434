"""The log: one JSON object a line, with the request id, and without the words of queries unless the settings ask for them."""

from __future__ import annotations

import hashlib
import logging
from typing import TextIO

import structlog

# Fields that a line may have; whatever else gets in by mistake stays out of the log.
_ALLOWED = frozenset(
    """event level timestamp request_id method route status ms cpu_ms energy_j tokens collection version key model error message
    query query_chars query_sha256 degraded shared job kind state address keys settings stage path before after trace n""".split()
)


def open_log(stream: TextIO) -> structlog.typing.FilteringBoundLogger:
    """Make a logger that writes to a stream; nothing global is changed.

    Args:
        stream: Where to, usually standard error.

    Returns:
        The logger.
    """
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _only_allowed,
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
    )
    return logger


def pass_on_libraries(log: structlog.typing.FilteringBoundLogger) -> None:
    """Bring the warnings of libraries into the log as lines of its own form; this is for a whole process.

    Args:
        log: Takes them, as ``event: library`` with ``error`` (the name of their logger) and ``message``, without tracebacks, which may
            quote what was sent.
    """
    logging.basicConfig(handlers=[_Passing(log)], level=logging.WARNING)


class _Passing(logging.Handler):
    """Hands records on."""

    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self._log.warning("library", error=record.name, message=record.getMessage()[:500])


def query_facts(text: str, *, with_text: bool) -> dict[str, object]:
    """What the log says of a query.

    Args:
        text: The query.
        with_text: Whether its words may be told.

    Returns:
        Its length, and twelve hex digits of its SHA-256, which tell equal queries; with its words if they may be told.
    """
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
    return {"query_chars": len(text), "query_sha256": digest} | ({"query": text} if with_text else {})


def _only_allowed(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {name: value for name, value in event.items() if name in _ALLOWED}
