"""Answers to requests that a job will fulfil, and to repeated requests."""

from fastapi.responses import JSONResponse

from service.idempotency import Answer


def accepted(answer: Answer) -> JSONResponse:
    """Return the answer 202, with the job's address."""
    return JSONResponse(answer.body, status_code=202, headers=accepted_headers(answer))


def accepted_headers(answer: Answer) -> dict[str, str]:
    """Return the headers that name the job, and a repeated request."""
    return {"Location": answer.location, **replay_headers(answer)}


def replay_headers(answer: Answer) -> dict[str, str]:
    """Return the header of an answer to a request that was answered before."""
    return {"Idempotency-Replayed": "true"} if answer.replayed else {}
