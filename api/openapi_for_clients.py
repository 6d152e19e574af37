"""What OpenAPI needs so that generated clients read well and send what their caller has set.

openapi-python-client sends every default that a request's schema names, which a later release may
refuse or mean otherwise. openapi-typescript makes every field with a default required. So requests
have no `default`: their descriptions tell it.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from fastapi.routing import APIRoute


def operation_id(route: APIRoute) -> str:
    """Return the operation id of a route: its function's name, which generated clients take over.

    A second address of a function has a `name` of its own.
    """
    return route.name


def for_clients(document: dict[str, Any]) -> dict[str, Any]:
    """Return OpenAPI as generators of clients need it."""
    return _without_defaults_of_requests(_with_named_components(document))


def _with_named_components(document: dict[str, Any]) -> dict[str, Any]:
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


def _without_defaults_of_requests(document: dict[str, Any]) -> dict[str, Any]:
    """Return OpenAPI whose requests tell their defaults in prose."""
    schemas = document["components"]["schemas"]
    waiting = [
        content["schema"]
        for operations in document["paths"].values()
        for operation in operations.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
    ]
    seen: set[str] = set()
    while waiting:
        schema = waiting.pop()
        _tell_defaults(schema)
        names = set(_references(schema)) - seen
        seen |= names
        waiting += [schemas[name] for name in names]
    return document


def _tell_defaults(schema: dict[str, Any]) -> None:
    """Move a schema's defaults to its descriptions, in place; references are not followed."""
    default = schema.pop("default", None)
    if default not in (None, "", []) and not isinstance(default, dict):
        told = f"Default: `{json.dumps(default)}`."
        schema["description"] = f"{schema.get('description', '')} {told}".strip()
    parts = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
    if "items" in schema:
        parts.append(schema["items"])
    for part in (*parts, *schema.get("oneOf", ())):
        _tell_defaults(part)


def _references(node: Any) -> Iterator[str]:
    """Yield the names of the components that a schema refers to."""
    if isinstance(node, list):
        for item in node:
            yield from _references(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value.rpartition("/")[2]
            else:
                yield from _references(value)
