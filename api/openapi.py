"""The parts of OpenAPI that types do not express: problems, examples, forms, headers."""

import re
from http import HTTPStatus
from typing import Any, Final

from fastapi.openapi.models import Example

from api import problems
from perfusion_core.text.prompt import NAME_PATTERN
from service.options import TrainingOptions
from service.pictures.uploads import MAX_PICTURES

Responses = dict[int | str, dict[str, Any]]

TITLE: Final = "Perfusion, self-hosted"
DESCRIPTION: Final = """\
Teach a frozen text-to-image model a subject from a few pictures, then compose it at any strength.

`POST /concepts` starts a training and `POST /generate` a generation; both answer with a job, \
which `GET /jobs/{id}` and `GET /jobs/{id}/events` follow. Errors are `application/problem+json` \
(RFC 9457). Times are RFC 3339 in UTC, ids are opaque strings, unknown fields are refused.
"""
TAGS: Final = [
    {"name": "concepts", "description": "Subjects that the base model has learned."},
    {"name": "generation", "description": "Pictures from a prompt with concepts."},
    {"name": "jobs", "description": "What is queued, running or done."},
    {"name": "service", "description": "The base model, and whether all is well."},
]

REQUEST_HEADERS: Final = [
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Prefer",
    "X-Request-Id",
]
ANSWER_HEADERS: Final = [
    "Content-Disposition",
    "ETag",
    "Idempotency-Replayed",
    "Location",
    "Preference-Applied",
    "Retry-After",
    "X-Request-Id",
]

_MEANINGS: Final = {
    400: "The request cannot be read.",
    401: "A key is needed, or this one opens nothing.",
    403: "The caller may not do this.",
    404: "There is no such object, or it is somebody else's.",
    408: "The body stopped arriving, or took too long.",
    409: "The present state forbids it.",
    413: "Too many bytes.",
    415: "A kind of body or file that is not accepted.",
    422: "Fields break a rule; `errors` names each with its pointer.",
    429: "A limit is used up; `Retry-After` says when to come back.",
    500: "Something unexpected went wrong; `request_id` finds it in the log.",
    503: "Something that is needed cannot serve now; nothing was accepted.",
    507: "The caller has stored as much as is allowed.",
}
_ALWAYS: Final = (401, 403, 422, 429, 500, 503)
_RETRY_AFTER: Final = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}


def refusals(*statuses: int, always: tuple[int, ...] = _ALWAYS) -> Responses:
    """Return the problems that a route may answer with, besides the problems of every route."""
    return {status: _refusal(status) for status in sorted({*always, *statuses})}


def _refusal(status: int) -> dict[str, Any]:
    example: dict[str, Any] = {
        "type": "/problems/invalid",
        "title": "Invalid",
        "detail": "This must be at most 200.",
        "status": status,
        "instance": "urn:request:5f0c2b7e",
        "request_id": "5f0c2b7e",
        "errors": [
            {
                "pointer": "/num_inference_steps",
                "detail": "This must be at most 200.",
            }
        ],
    }
    content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        content["example"] = example
    refusal: dict[str, Any] = {
        "description": _MEANINGS[status],
        "content": {problems.MEDIA_TYPE: content},
    }
    if status in (429, 503):
        refusal["headers"] = _RETRY_AFTER
    return refusal


def headers(**descriptions: str) -> dict[str, Any]:
    """Return the `headers` of an answer for OpenAPI; `_` in a name stands for `-`."""
    return {
        name.replace("_", "-"): {"schema": {"type": "string"}, "description": description}
        for name, description in descriptions.items()
    }


def name_components(document: dict[str, Any]) -> dict[str, Any]:
    """Return OpenAPI with names for clients: `JobView` becomes `Job`, a page of jobs `JobPage`.

    The service's classes have longer names, because the core has classes of the short names.
    """
    document = _with_named_references(document)
    schemas = document["components"]["schemas"]
    named = {name: {**schemas[old], "title": name} for old in schemas for name in [_name(old)]}
    document["components"]["schemas"] = dict(sorted(named.items()))
    return document


def _with_named_references(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_named_references(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _name(value) if key == "$ref" else _with_named_references(value)
        for key, value in node.items()
    }


def _name(component: str) -> str:
    """Return a component's name for clients; `component` may also be a reference."""
    component = component.replace("ConceptChoice", "ConceptUse")
    return re.sub(r"Page_(\w+)_$", r"\1Page", re.sub(r"View(?=_?$)", "", component))


def multipart(properties: dict[str, Any], required: list[str], **encoding: str) -> dict[str, Any]:
    """Return a multipart request body, because the framework cannot see forms read by hand."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": properties,
                        "required": required,
                        "additionalProperties": False,
                    },
                    "encoding": {name: {"contentType": kind} for name, kind in encoding.items()},
                }
            },
        }
    }


ACCEPTED_HEADERS: Final = headers(
    Location="`/jobs/{id}`.", Idempotency_Replayed="`true` where this is the first answer again."
)

_FILE: Final = {"type": "string", "format": "binary"}
_NAME: Final = {
    "type": "string",
    "pattern": f"^{NAME_PATTERN}$",
    "description": "`<name>` will be its placeholder.",
    "example": "rex",
}

CONCEPT_FORM: Final = multipart(
    {
        "images": {
            "type": "array",
            "items": _FILE,
            "minItems": 1,
            "maxItems": MAX_PICTURES,
            "description": "JPEG, PNG or WebP; the alpha of PNG and WebP serves as a mask.",
        },
        "masks": {
            "type": "array",
            "items": _FILE,
            "maxItems": MAX_PICTURES,
            "description": "As many as images, in the same order and sizes; white is the subject.",
        },
        "name": _NAME,
        "superclass": {
            "type": "string",
            "description": "What it is, in 1 to 3 words.",
            "example": "teddy bear",
        },
        "training": TrainingOptions.model_json_schema(),
    },
    ["images", "name", "superclass"],
    images="image/png, image/jpeg, image/webp",
    masks="image/png, image/jpeg, image/webp",
    training="application/json",
)
IMPORT_FORM: Final = multipart(
    {
        "file": {**_FILE, "description": "A concept's safetensors file."},
        "name": {**_NAME, "description": "Instead of the name in the file."},
    },
    ["file"],
)
GENERATE_EXAMPLES: Final[dict[str, Example]] = {
    "two concepts": {
        "summary": "Two concepts in one image, the second more like its pictures",
        "value": {
            "prompt": "a photo of <teddy> next to <rex> on the beach",
            "concepts": [{"name": "rex", "beta": 0.4}],
            "num_images": 2,
            "seed": 7,
        },
    },
    "by hand": {
        "summary": "Global locking, a bias and a sampler",
        "value": {
            "prompt": "a photo of <rex> at night",
            "concepts": [{"name": "rex", "beta": 0.7}],
            "locking": "global",
            "num_inference_steps": 25,
            "scheduler": "dpmpp_2m",
        },
    },
}

JOB_EVENT: Final = {
    "type": "object",
    "properties": {
        "event": {"enum": ["progress", "succeeded", "failed", "cancelled"]},
        "id": {"type": "string"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/Job"},
        },
    },
}
