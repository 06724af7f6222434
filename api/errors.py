"""Errors as HTTP tells them: one table from class and code to status, two shapes.

Paths that are compatible with OpenAI answer in its shape, because its clients read no other; all others answer with RFC 9457
``application/problem+json``. Both carry the same ``code`` and request id.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.admission import GoneError
from api.patience import LateError
from api.ticket import ticket_of
from rag.errors import ConfigError, InputError, MissingExtraError, ModelError, OverloadedError, PowerError, RagError, SnapshotError

OPENAI_PATHS = ("/v1/chat/", "/v1/models", "/v1/embeddings", "/v1/rerank")
# What nginx logs for a client that has left; it is never sent.
CLIENT_GONE = 499


class RefusedError(RagError):
    """The service does not take a request: who asks, for what, or how.

    Args:
        message: One line for people.
        code: One of the codes of this class in `STATUSES`.
        headers: Sent with the refusal.
    """

    def __init__(self, message: str, *, code: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message, code=code)
        self.headers = headers or {}


STATUSES: dict[tuple[type[RagError], str], int] = {
    # Of a class, the status of a code; "" is that of every other code.
    (InputError, ""): 400,
    (InputError, "unknown_collection"): 404,
    (InputError, "unknown_document"): 404,
    (InputError, "no_key"): 404,
    (InputError, "key_unknown"): 401,
    (InputError, "key_revoked"): 401,
    (InputError, "key_expired"): 401,
    (RefusedError, ""): 400,
    (RefusedError, "no_api_key"): 401,
    (RefusedError, "scope"): 403,
    (RefusedError, "origin"): 403,
    (RefusedError, "not_found"): 404,
    (RefusedError, "unknown_job"): 404,
    (RefusedError, "model_not_found"): 404,
    (RefusedError, "method_not_allowed"): 405,
    (RefusedError, "collection_exists"): 409,
    (RefusedError, "job_over"): 409,
    (RefusedError, "too_large"): 413,
    (RefusedError, "too_many"): 413,
    (RefusedError, "media_type"): 415,
    (RefusedError, "invalid_request"): 422,
    (RefusedError, "unknown_field"): 422,
    (RefusedError, "idempotency_key"): 422,
    (RefusedError, "timeout"): 504,
    (SnapshotError, ""): 503,
    (SnapshotError, "no_data"): 404,
    (SnapshotError, "locked"): 409,
    (SnapshotError, "write"): 507,
    (ModelError, ""): 502,
    (ModelError, "timeout"): 504,
    (ModelError, "too_long"): 400,
    (ModelError, "over_budget"): 400,
    (ConfigError, ""): 503,
    (ConfigError, "no_model"): 400,
    (MissingExtraError, ""): 501,
    (PowerError, ""): 500,
    (OverloadedError, ""): 503,
    (OverloadedError, "rate_limit"): 429,
    (RagError, ""): 500,
}
_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


@dataclass(frozen=True, slots=True)
class Fault:
    """An error on its way out.

    Attributes:
        status: Of HTTP.
        code: For programs.
        message: For people, one line.
        param: The field that is at fault, or None.
        headers: Sent besides.
    """

    status: int
    code: str
    message: str
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


def fault_of(error: Exception) -> Fault:
    """What an exception is to a client.

    Args:
        error: Any.

    Returns:
        The row of the table for ours; 422 or 400 for what does not fit a schema; 500 for everything that we cannot explain.
    """
    match error:
        case RagError():
            status = status_of(error)
            headers = dict(error.headers) if isinstance(error, RefusedError) else {}
            if status == HTTPStatus.UNAUTHORIZED:
                headers["www-authenticate"] = "Bearer"
            return Fault(status, error.code, " ".join(str(error).split()), headers=headers)
        case LateError():
            message = f"the answer took longer than allowed: {error} (settings api.*); ask for less, or try again later"
            return Fault(504, "timeout", message)
        case GoneError():
            return Fault(CLIENT_GONE, "client_gone", "the client has left")
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            return _of_http(error)
        case _:
            return Fault(500, "bug", "internal error; this is a bug, please report it with the request id")


def status_of(error: RagError) -> int:
    """The status of an error: of its class and code, else of its class, else of the class above."""
    for kind in type(error).__mro__:
        for code in (error.code, ""):
            if (status := STATUSES.get((kind, code))) is not None:
                return status
    return 500


def response_of(fault: Fault, path: str, request_id: str) -> Response:
    """A fault as the client of a path reads it.

    Args:
        fault: What is told.
        path: Decides on the shape.
        request_id: Told with it.

    Returns:
        The response.
    """
    if path.startswith(OPENAI_PATHS):
        return Response(_json(openai_shape(fault, request_id)), fault.status, fault.headers, "application/json")
    value = {
        "type": f"urn:ragwatt:error:{fault.code}",
        "title": "Client left" if fault.status == CLIENT_GONE else HTTPStatus(fault.status).phrase,
        "status": fault.status,
        "detail": fault.message,
        "instance": path,
        "code": fault.code,
        "param": fault.param,
        "request_id": request_id,
    }
    return Response(_json(value), fault.status, fault.headers, "application/problem+json")


def openai_shape(fault: Fault, request_id: str) -> dict[str, Any]:
    """A fault as clients of OpenAI read it, in a body or in an event of a stream."""
    kind = _OPENAI_TYPES.get(fault.status, "server_error" if fault.status >= 500 else "invalid_request_error")
    return {"error": {"message": fault.message, "type": kind, "param": fault.param, "code": fault.code, "request_id": request_id}}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the description of a route: the errors that it may answer with, besides those that every route may."""
    return _described(statuses, "application/problem+json", "Problem")


def openai_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """As `problem_responses`, in the shape of OpenAI."""
    return _described(statuses, "application/json", "OpenAIError")


def install(app: FastAPI) -> None:
    """Let the application answer all errors in our shapes; what it cannot explain is the gate's."""
    for kind in (RagError, LateError, GoneError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _handle)


def _handle(request: Request, error: Exception) -> Response:
    ticket = ticket_of(request)
    fault = fault_of(_seen(request, error))
    ticket.facts["error"] = fault.code
    if fault.status >= 500:
        ticket.facts["message"] = fault.message
    if fault.status == 503:
        fault.headers["retry-after"] = str(request.app.state.service.admission.retry_after_s)
    return response_of(fault, request.url.path, ticket.request_id)


def media_type_error(request: Request, needed: str) -> RefusedError:
    """What is said to a body of another type than the one that is needed."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()[:80]
    return RefusedError(f"the body is {kind or 'of no declared type'}; send {needed}", code="media_type")


def _seen(request: Request, error: Exception) -> Exception:
    """An error of the framework with what it leaves out."""
    match error:
        case HTTPException(status_code=405):  # it tells the methods of the first route of a path, which may have several
            path = getattr(request.scope.get("route"), "path_format", "")
            methods = ", ".join(sorted(request.app.openapi()["paths"].get(path, {}))).upper()
            return HTTPException(405, headers={"Allow": methods}) if methods else error
        case RequestValidationError(body=bytes()):  # no JSON by its header, so it was not parsed
            return media_type_error(request, "JSON as content-type: application/json")
        case _:
            return error


def _described(statuses: tuple[int, ...], media: str, name: str) -> dict[int | str, dict[str, Any]]:
    content = {media: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    shared = (400, 401, 403, 404, 405, 413, 415, 422, 429, 500, 502, 503, 504)
    return {s: {"description": HTTPStatus(s).phrase, "content": content} for s in sorted({*shared, *statuses})}


def _invalid(error: RequestValidationError) -> Fault:
    """The first thing that does not fit; the value itself is not repeated, it may be long or secret."""
    errors = error.errors()
    first = next((one for one in errors if one["type"] == "string_unicode"), errors[0])
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "")
        return Fault(400, "malformed_json", f"the body is no JSON: {reason}; send one JSON object")
    parts = [
        str(part) for part in first["loc"][1:] if "constrained-str" not in str(part)
    ]  # pydantic's name for one side of a choice
    where = ".".join(parts)[:200] or str(first["loc"][0])
    if first["type"] == "string_unicode":
        return Fault(422, "invalid_request", f"{where}: the text has half of a surrogate pair; send whole characters", where)
    if first["type"] == "extra_forbidden":
        return Fault(422, "unknown_field", f"unknown field {where!r}; see /openapi.json for those there are", where)
    return Fault(422, "invalid_request", f"{where}: {first['msg']}; see /openapi.json for what is allowed", where)


def _of_http(error: HTTPException) -> Fault:
    headers = dict(error.headers or {})
    match error.status_code:
        case 400 if isinstance(error.__cause__, ValueError | RecursionError):  # FastAPI could not parse it
            reason = (
                "it is nested too deeply" if isinstance(error.__cause__, RecursionError) else "its numbers or bytes are not allowed"
            )
            return Fault(400, "malformed_json", f"the body is no JSON: {reason}; send one JSON object as UTF-8")
        case 400:  # of the parser of forms
            message = f"the form cannot be read: {error.detail} Send one or more files named 'file' as multipart/form-data"
            return Fault(400, "malformed_form", message)
        case 404:
            return Fault(404, "not_found", "there is nothing here; see /openapi.json for the paths there are", headers=headers)
        case 405:
            return Fault(405, "method_not_allowed", f"allowed here: {headers.get('Allow', 'another method')}", headers=headers)
        case status:
            return Fault(status, "invalid_request" if status < 500 else "bug", str(error.detail), headers=headers)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")
