"""Collections, their documents, and the jobs that change them. What writes is answered when it is done, or at once with a job."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from dataclasses import asdict, replace
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.responses import Response

from api.asking import asked_collection, asking
from api.auth import AnyCaller, check_collection, no_collection, require
from api.batch import Batch
from api.counted import CountedEmbedder, PoolMeter
from api.documents import (
    Upload,
    check_collection_name,
    check_file_name,
    create_collection,
    drop_collection,
    ingest_uploads,
    record,
    remove_document,
    report_json,
)
from api.errors import RefusedError, media_type_error, problem_responses
from api.jobs import Job, Order, Steps
from api.keys import Caller
from api.reply import plain_response
from api.schemas import (
    BatchRequest,
    CollectionList,
    CollectionRequest,
    CollectionView,
    Deleted,
    DocumentList,
    JobView,
    Json,
    UploadRequest,
)
from api.service import Service, service_of
from api.work import answer_way
from rag.errors import InputError, RagError, SnapshotError
from rag.settings import Settings
from rag.store.admin import collection_documents, data_status

router = APIRouter(prefix="/v1", responses=problem_responses(409, 415, 507), tags=["collections"])
MAX_PAGE = 1000
IdempotencyKey = Annotated[str, Header(max_length=255, pattern=r"^[\x21-\x7e]*$")]
_MAX_FILES = 1000
_UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/UploadRequest"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}},
                    "required": ["file"],
                }
            },
        },
    }
}


@router.get("/collections", response_model=CollectionList)
def list_collections(who: AnyCaller, request: Request) -> Response:
    """List the collections that the caller may use."""
    require(who, "query")
    try:
        found = data_status(service_of(request).settings.data_dir)
    except SnapshotError as error:
        if error.code != "no_data":
            raise
        found = []
    return plain_response(request, {"data": [asdict(row) for row in found if who.sees(row.name)]})


@router.post("/collections", response_model=CollectionView, status_code=201)
def make_collection(body: CollectionRequest, who: AnyCaller, request: Request) -> Response:
    """Make an empty collection; an upload makes one too."""
    service = service_of(request)
    require(who, "admin")
    check_collection(who, body.name)
    with service.engines.embedder() as embedder:
        if not create_collection(body.name, service.settings, embedder):
            raise RefusedError(f"collection {body.name!r} is there already; choose another name", code="collection_exists")
    return plain_response(request, _status(service, who, body.name), 201, {"location": f"/v1/collections/{body.name}"})


@router.get("/collections/{name}", response_model=CollectionView)
def show_collection(name: str, who: AnyCaller, request: Request) -> Response:
    """Show one collection."""
    require(who, "query")
    return plain_response(request, _status(service_of(request), who, name))


@router.delete("/collections/{name}", response_model=Deleted)
def delete_collection(name: str, who: AnyCaller, request: Request) -> Response:
    """Delete a collection with everything in it."""
    service = service_of(request)
    require(who, "admin")
    _status(service, who, name)
    service.engines.retire(name)
    drop_collection(name, service.settings.data_dir)
    service.engines.refresh(name)
    return plain_response(request, {"deleted": name, "version": 0})


@router.get("/collections/{name}/documents", response_model=DocumentList)
def list_documents(
    name: str,
    who: AnyCaller,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    cursor: Annotated[str, Query(max_length=2000)] = "",
) -> Response:
    """List documents by id, a page at a time; a cursor stays good when a new version is published meanwhile."""
    service = service_of(request)
    require(who, "query")
    version = int(_status(service, who, name)["version"])
    rows = collection_documents(service.settings.data_dir, name, after=_position(cursor), limit=limit + 1)
    page = rows[:limit]
    following = _cursor(page[-1].doc_id) if len(rows) > limit else None
    return plain_response(request, {"data": [asdict(row) for row in page], "version": version, "next_cursor": following})


@router.post("/collections/{name}/documents", response_model=JobView, status_code=202, openapi_extra=_UPLOAD_BODY)
async def upload(name: str, who: AnyCaller, request: Request, idempotency_key: IdempotencyKey = "") -> Response:
    """Ingest documents in a job: files as multipart/form-data, or text as JSON. One that was there before is replaced."""
    service = service_of(request)
    require(who, "ingest")
    check_collection(who, name)
    check_collection_name(name)
    uploads = await _uploads(request)
    sent = time.monotonic()
    digest = hashlib.sha256(name.encode())
    for one in uploads:
        digest.update(f"\0{len(one.name)}\0{one.name}\0{len(one.data)}\0".encode())
        digest.update(one.data)

    def run(steps: Steps, meter: PoolMeter) -> Json:
        with service.engines.embedder() as embedder:
            counted = CountedEmbedder(embedder)
            meter.pool = counted.cpu_ns
            try:
                report = ingest_uploads(uploads, name, _gentle(service.settings), counted, steps, meter)
            except RagError:
                service.metrics.ingested(time.monotonic() - sent, 0, len(uploads))
                raise
        service.engines.refresh(name)  # who sees the job succeeded must find the documents
        found = report_json(report, uploads)
        n_failed = sum(one["status"] == "failed" for one in found["documents"])
        service.metrics.ingested(time.monotonic() - sent, len(uploads) - n_failed, n_failed)
        return found

    return _accepted(request, Order(who.tenant, "upload", name, digest.hexdigest(), run, idempotency_key))


@router.delete("/collections/{name}/documents/{doc_id:path}", response_model=Deleted)
def delete_document(name: str, doc_id: str, who: AnyCaller, request: Request) -> Response:
    """Delete a document; the answer tells the version from which on it is gone."""
    service = service_of(request)
    require(who, "ingest")
    _status(service, who, name)
    with service.engines.embedder() as embedder:
        version = remove_document(name, doc_id, service.settings, embedder)
    service.engines.refresh(name)
    return plain_response(request, {"deleted": doc_id, "version": version})


@router.post("/batches", response_model=JobView, status_code=202)
def batch(body: BatchRequest, who: AnyCaller, request: Request, idempotency_key: IdempotencyKey = "") -> Response:
    """Answer many questions in a job; they cost less than as many requests."""
    service = service_of(request)
    collection = asked_collection(service, who, body.collection)
    _status(service, who, collection)
    limit = service.options.max_batch
    if len(body.questions) > limit:
        raise RefusedError(
            f"{len(body.questions)} questions; allowed: {limit} in one batch (api.max_batch); send several", code="too_many"
        )
    k = service.settings.search.k
    questions = [(question.id, asking(question.query, body, k, who)) for question in body.questions]
    work = Batch(collection, answer_way(body.mode, service.settings), questions)
    digest = hashlib.sha256(body.model_dump_json().encode("utf-8", "surrogatepass")).hexdigest()

    def run(steps: Steps, meter: PoolMeter) -> Json:
        return work.run(service.engines, service.power, steps, meter)

    return _accepted(request, Order(who.tenant, "batch", collection, digest, run, idempotency_key))


@router.get("/jobs/{job_id}", response_model=JobView)
def show_job(job_id: str, who: AnyCaller, request: Request) -> Response:
    """Show how far a job is, and what came of it."""
    return plain_response(request, service_of(request).jobs.job(job_id, who.tenant).as_json())


@router.delete("/jobs/{job_id}", response_model=JobView)
def cancel_job(job_id: str, who: AnyCaller, request: Request) -> Response:
    """Cancel a job that waits or runs."""
    return plain_response(request, service_of(request).jobs.cancel(job_id, who.tenant).as_json())


def _accepted(request: Request, order: Order) -> Response:
    job: Job
    job, _is_new = service_of(request).jobs.submit(order)
    return plain_response(request, job.as_json(), 202, {"location": f"/v1/jobs/{job.job_id}"})


def _status(service: Service, who: Caller, name: str) -> Json:
    """What there is to say of a collection that the caller may use."""
    check_collection(who, name)
    try:
        return asdict(data_status(service.settings.data_dir, name)[0])
    except (InputError, SnapshotError) as error:
        if error.code in ("unknown_collection", "no_data"):
            raise no_collection(name) from error
        raise


def _gentle(settings: Settings) -> Settings:
    """Ingest beside questions leaves them half of the cores, unless the settings say how many threads embed."""
    workers = settings.ingest.workers or max(1, (os.cpu_count() or 1) // 2)
    return replace(settings, ingest=replace(settings.ingest, workers=workers))


async def _uploads(request: Request) -> list[Upload]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            body = UploadRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in error.errors()]) from error
        return [record(one.id, one.title, one.text, one.metadata) for one in body.documents]
    if kind != "multipart/form-data":
        raise media_type_error(request, "files as multipart/form-data, or text as application/json")
    found: list[Upload] = []
    async with request.form(max_files=_MAX_FILES, max_fields=_MAX_FILES) as form:
        for part in form.getlist("file"):
            if not isinstance(part, UploadFile) or not part.filename:
                raise InputError("part 'file' has no file name; send files", code="bad_name")
            check_file_name(part.filename)
            found.append(Upload(part.filename, await part.read()))
    if not found:
        raise InputError("no part is called 'file'; send one or more files under that name", code="no_file")
    return found


def _cursor(doc_id: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([1, doc_id]).encode()).decode().rstrip("=")


def _position(cursor: str) -> str:
    """The document id behind which a page begins."""
    if not cursor:
        return ""
    try:
        form, after = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars="-_", validate=True))
        if form == 1 and isinstance(after, str):
            after.encode()  # half of a surrogate pair is in no id
            return after
    except (ValueError, TypeError):
        pass
    raise InputError("cursor is none of ours; take next_cursor of the page before, or leave it out to begin", code="bad_cursor")
