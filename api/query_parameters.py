"""Refuse query parameters that no route has, as unknown fields of a body are refused."""

from starlette.requests import Request

from service.errors import Invalid
from service.field_problems import field_problems


async def refuse_unknown(request: Request) -> None:
    """Raise Invalid if the query has a parameter that OpenAPI does not name for this route."""
    if not request.url.query:
        return
    method = request.method.lower()
    methods = request.app.openapi()["paths"][request.scope["route"].path_format]
    operation = methods["get" if method == "head" else method]
    known = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"}
    strangers = [name for name in request.query_params if name not in known]
    if strangers:
        raise Invalid(
            field_problems({"loc": (name,), "type": "extra_forbidden"} for name in strangers)
        )
