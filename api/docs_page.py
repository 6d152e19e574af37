"""The page at `/docs`, which the server renders once from OpenAPI to plain HTML.

Swagger UI would come from a CDN or as a bundle of foreign scripts. This page works without a
network, with the strictest content policy, and without JavaScript. An interactive tool can load
`/openapi.json`.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from html import escape
from typing import Any

Schema = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 3rem; border-bottom: 1px solid } h3 { margin-top: 2.5rem }
code, pre { font: 0.9em ui-monospace, monospace }
pre { padding: .75rem; overflow-x: auto; border: 1px solid #8886; border-radius: 4px }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-top: 1px solid #8886 }
"""

# The policy of all other pages, plus this page's style sheet by its hash.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src "
    f"'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)

_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "multipleOf": "multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "pattern": "matches {}",
}


def render(openapi: Schema) -> str:
    """Return the whole reference as one HTML document."""
    info = openapi["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>{escape(info['title'])}: reference</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        _prose(info.get("description", "")),
        "<p>The same, for machines: <a href=/openapi.json>/openapi.json</a>.</p>",
        _navigation(openapi),
    ]
    for tag in openapi.get("tags", []):
        name = escape(tag["name"])
        parts.append(f"<h2 id='{name}'>{name}</h2>{_prose(tag.get('description', ''))}")
        parts.extend(_operations(openapi, tag["name"]))
    parts.append("<h2 id=objects>Objects</h2>")
    for name, schema in sorted(openapi.get("components", {}).get("schemas", {}).items()):
        parts.append(f"<h3 id={escape(name)}>{escape(name)}</h3>")
        parts.append(_prose(schema.get("description", "")) + _fields(schema))
    return "".join(parts)


def _navigation(openapi: Schema) -> str:
    """Return links to every operation, by tag, and to the objects."""
    lines = []
    for tag in (escape(tag["name"]) for tag in openapi.get("tags", [])):
        links = " · ".join(
            f"<a href='#{escape(operation['operationId'])}'>{method.upper()} {escape(path)}</a>"
            for path, method, operation in _of_tag(openapi, tag)
        )
        lines.append(f"<li><a href='#{tag}'>{tag}</a>: {links}</li>")
    return f"<nav><ul>{''.join(lines)}<li><a href=#objects>objects</a></li></ul></nav>"


def _operations(openapi: Schema, tag: str) -> Iterator[str]:
    for path, method, operation in _of_tag(openapi, tag):
        yield _operation(path, method, operation)


def _of_tag(openapi: Schema, tag: str) -> Iterator[tuple[str, str, Schema]]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            if tag in operation.get("tags", ()):
                yield path, method, operation


def _operation(path: str, method: str, operation: Schema) -> str:
    parts = [
        f"<h3 id='{escape(operation['operationId'])}'><code>{method.upper()} {escape(path)}</code> "
        f"{escape(operation['summary'])}</h3>",
        _prose(operation.get("description", "")),
    ]
    rows = [
        (p["name"], f"{p['in']}, {_type(p['schema'])}", p.get("description", ""))
        for p in operation.get("parameters", [])
    ]
    parts.append(_table("Parameter", rows))
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<p>Body: <code>{escape(media_type)}</code>, {_type(content['schema'])}</p>")
        parts.append(_fields(content["schema"]) + _examples(content))
    rows = [
        (status, ", ".join(map(_media, response.get("content", {}).items())), _summary(response))
        for status, response in operation["responses"].items()
    ]
    return "".join([*parts, _table("Answer", rows)])


def _media(item: tuple[str, Schema]) -> str:
    media_type, content = item
    schema = content.get("schema", {})
    return escape(media_type) + (f": {_type(schema)}" if "$ref" in schema else "")


def _summary(response: Schema) -> str:
    headers = ", ".join(response.get("headers", {}))
    return str(response["description"]) + (f" Headers: {headers}." if headers else "")


def _fields(schema: Schema) -> str:
    required = set(schema.get("required", ()))
    return _table(
        "Field",
        [
            (
                name + (" *" if name in required else ""),
                _type(field) + _default(field),
                field.get("description", ""),
            )
            for name, field in schema.get("properties", {}).items()
        ],
    )


def _examples(content: Schema) -> str:
    return "".join(
        f"<pre>{escape(json.dumps(example['value'], indent=2, ensure_ascii=False))}</pre>"
        for example in content.get("examples", {}).values()
    )


def _type(schema: Schema) -> str:
    """Return a short HTML description of a schema."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f"<a href='#{name}'>{name}</a>"
    if options := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return " | ".join(_type(option) for option in options)
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    word = escape(schema.get("format") or schema.get("type") or "anything")
    if schema.get("type") == "array":
        word = f"array of {_type(schema.get('items', {}))}"
    bounds = [text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema]
    return word + escape("".join(f", {bound}" for bound in bounds))


def _default(schema: Schema) -> str:
    default = schema.get("default")
    return "" if default is None else f" = <code>{escape(json.dumps(default))}</code>"


def _table(heading: str, rows: list[tuple[str, str, str]]) -> str:
    """Return a table of rows (name, HTML, prose), or an empty text if there are no rows."""
    if not rows:
        return ""
    body = "".join(
        f"<tr><td><code>{escape(name)}</code><td>{html}<td>{_inline(prose)}"
        for name, html, prose in rows
    )
    return f"<div class=scroll><table><tr><th>{heading}<th><th>{body}</table></div>"


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(part)}</p>" for part in text.split("\n\n") if part.strip())


def _inline(text: str) -> str:
    """Return escaped text that keeps its `code` spans."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if k % 2 else part for k, part in enumerate(parts))
