"""Hooks of `st run`, which send half of the requests to objects that exist."""

import os

import schemathesis
from schemathesis import HookContext

_OBJECTS = {
    "/concepts/{ref}": os.environ["FUZZED_CONCEPT"],
    "/concepts/{ref}/file": os.environ["FUZZED_CONCEPT"],
    "/concepts/{ref}/curve": os.environ["FUZZED_CONCEPT"],
    "/concepts/{ref}/train": os.environ["FUZZED_CONCEPT"],
    "/concepts/{ref}/revert": os.environ["FUZZED_CONCEPT"],
    "/concepts/{ref}/pictures": os.environ["FUZZED_CONCEPT"],
    "/concepts/{ref}/curve/{k}": os.environ["FUZZED_CONCEPT"],
    "/jobs/{id}": os.environ["FUZZED_JOB"],
    "/jobs/{id}/events": os.environ["FUZZED_JOB"],
    "/jobs/{id}/cancel": os.environ["FUZZED_JOB"],
    "/jobs/{id}/finish": os.environ["FUZZED_JOB"],
    "/jobs/{id}/sheet": os.environ["FUZZED_JOB"],
    "/jobs/{id}/preview": os.environ["FUZZED_TRAINING"],
    "/images/{id}": os.environ["FUZZED_IMAGE"],
    "/images/{id}.json": os.environ["FUZZED_IMAGE"],
    "/images/{id}/thumbnail": os.environ["FUZZED_IMAGE"],
}


@schemathesis.hook
def map_path_parameters(
    context: HookContext, path_parameters: dict[str, str] | None
) -> dict[str, str] | None:
    operation = context.operation
    known = _OBJECTS.get(operation.path) if operation is not None else None
    if known is None or not path_parameters or operation.method in ("delete", "patch"):
        return path_parameters
    return {
        name: known if name != "k" and sum(str(value).encode(errors="replace")) % 2 else value
        for name, value in path_parameters.items()
    }
