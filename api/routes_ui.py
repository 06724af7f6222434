"""The page at ``/`` and its parts: files of this package, with headers that leave a browser nothing to do but to show them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

router = APIRouter(include_in_schema=False)
FOLDER = Path(__file__).with_name("ui")
_READ = ["GET", "HEAD"]
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
# The page writes text nodes only, so it needs neither inline code nor a way to make markup of a string: the browser refuses both.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Names do not change with the content: a browser asks each time, and an unchanged file costs it a 304.
    "cache-control": "no-cache",
}


@router.api_route("/", methods=_READ)
async def page(request: Request) -> Response:
    """Show the page."""
    return _file(request, "index.html")


@router.api_route("/ui/{name}", methods=_READ)
async def part(name: str, request: Request) -> Response:
    """Show a part of the page."""
    return _file(request, name)


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """Content and tag of every file; a name that is none of these cannot be asked for."""
    found = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix in _TYPES}
    return {name: (content, f'"{hashlib.sha256(content).hexdigest()[:32]}"') for name, content in found.items()}


def _file(request: Request, name: str) -> Response:
    if name not in _files():
        raise HTTPException(404)
    content, tag = _files()[name]
    headers = _HEADERS | {"etag": tag}
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=_TYPES[Path(name).suffix])
