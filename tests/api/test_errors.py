"""The one table from errors to statuses."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest

from api.admission import GoneError
from api.errors import STATUSES, Fault, RefusedError, fault_of, response_of, status_of
from api.patience import LateError
from rag import errors
from rag.errors import InputError, MissingExtraError, ModelError, OverloadedError, RagError, SnapshotError


def test_every_class_of_errors_has_a_row() -> None:
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RagError)]
    assert len(classes) >= 8
    assert {(kind, "") for kind in classes} <= set(STATUSES)


def test_every_status_is_one_of_http_and_an_error() -> None:
    assert all(HTTPStatus(status) >= 400 for status in STATUSES.values())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("x"), 400),
        (InputError("x", code="unknown_collection"), 404),
        (InputError("x", code="key_expired"), 401),
        (RefusedError("x", code="scope"), 403),
        (ModelError("x"), 502),
        (ModelError("x", code="timeout"), 504),
        (SnapshotError("x", code="locked"), 409),
        (OverloadedError("x", code="overloaded"), 503),
        (OverloadedError("x", code="rate_limit"), 429),
        (MissingExtraError("x", "local"), 501),
    ],
)
def test_status_is_that_of_the_code_else_of_the_class(error: RagError, status: int) -> None:
    assert status_of(error) == status


def test_class_without_a_row_has_the_status_of_the_class_above() -> None:
    class NarrowError(InputError):
        """A class that the table does not know."""

    assert status_of(NarrowError("x", code="unknown_document")) == 404
    assert status_of(NarrowError("x")) == 400


def test_what_we_cannot_explain_tells_nothing_of_itself() -> None:
    fault = fault_of(ValueError("a secret"))
    assert (fault.status, fault.code) == (500, "bug")
    assert "secret" not in fault.message


def test_late_and_gone_have_statuses_of_their_own() -> None:
    assert (fault_of(LateError("model", 5)).status, fault_of(GoneError()).status) == (504, 499)


def test_unauthorised_says_how_to_authenticate() -> None:
    assert fault_of(InputError("x", code="key_unknown")).headers == {"www-authenticate": "Bearer"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models/x", "/v1/embeddings", "/v1/rerank"])
def test_paths_of_openai_have_its_shape(path: str) -> None:
    found = json.loads(bytes(response_of(Fault(429, "rate_limit", "m"), path, "r").body))
    assert found == {"error": {"message": "m", "type": "rate_limit_error", "param": None, "code": "rate_limit", "request_id": "r"}}


def test_own_paths_have_the_shape_of_rfc_9457() -> None:
    response = response_of(Fault(404, "unknown_job", "m"), "/v1/jobs/x", "r")
    assert response.media_type == "application/problem+json"
    assert json.loads(bytes(response.body)) == {
        "type": "urn:ragwatt:error:unknown_job",
        "title": "Not Found",
        "status": 404,
        "detail": "m",
        "instance": "/v1/jobs/x",
        "code": "unknown_job",
        "param": None,
        "request_id": "r",
    }
