"""The parts of OpenAPI that types do not express: problems, examples, forms, headers."""

from http import HTTPStatus
from typing import Any, Final

from fastapi.openapi.models import Example

from api import problems
from api.openai import errors as openai_errors
from service.jobs.views import EventPreviews

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
    {"name": "openai", "description": "The same generations, for clients of OpenAI's images API."},
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
    504: "The job did not end in time. It goes on; `Location` names it.",
    507: "The caller has stored as much as is allowed.",
}
_ALWAYS: Final = (401, 403, 422, 429, 500, 503)
_RETRY_AFTER: Final = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}


def refusals(*statuses: int, always: tuple[int, ...] = _ALWAYS) -> Responses:
    """Return the problems that a route may answer with, besides the problems of every route."""
    return {status: _refusal(status) for status in sorted({*always, *statuses})}


def openai_refusals(*statuses: int) -> Responses:
    """Return the errors in OpenAI's form that a route may answer with."""
    return {
        status: {
            "description": _MEANINGS[status],
            "model": openai_errors.OpenAIError,
            **({"headers": _RETRY_AFTER} if status in (429, 503) else {}),
        }
        for status in sorted({*_ALWAYS, *statuses})
    }


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


ACCEPTED_HEADERS: Final = headers(
    Location="`/jobs/{id}`.", Idempotency_Replayed="`true` where this is the first answer again."
)
FORGOTTEN_HEADERS: Final = headers(
    Clear_Site_Data='`"cache"`: browsers drop what they have cached of this server.'
)

GENERATE_EXAMPLES: Final[dict[str, Example]] = {
    "no concept": {
        "summary": "One image of what the base model knows by itself",
        "value": {"prompt": "a cup on a wooden table", "seed": 7},
    },
    "two concepts": {
        "summary": "Two concepts in one image, the second more like its pictures",
        "value": {
            "prompt": "a photo of <teddy> next to <rex> on the beach",
            "concepts": [{"name": "rex", "beta": 0.4}],
            "num_images": 2,
            "seed": 7,
        },
    },
    "edit": {
        "summary": "Paint a part of a generated image anew",
        "value": {
            "prompt": "<rex> on a wooden table",
            "image": {"image_id": "image_5f0c2b7e"},
            "mask": {"boxes": [[128, 128, 256, 256]]},
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
            "contentSchema": {
                "allOf": [{"$ref": "#/components/schemas/Job"}],
                # Of a generation, with `previews=true`, if they are new.
                "properties": EventPreviews.model_json_schema()["properties"],
            },
        },
    },
}
