"""The API as a page for people, made from the OpenAPI document and whole in itself: no script, nothing from elsewhere.

Pure. A server on a machine without a network has to show it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; }
code { font-family: ui-monospace, monospace; font-size: 0.92em; }
summary { cursor: pointer; padding: 0.3rem 0; }
summary b { display: inline-block; width: 4.5rem; }
table { border-collapse: collapse; margin: 0.5rem 0 1rem 4.5rem; }
td { border-top: 1px solid #ddd; padding: 0.2rem 1rem 0.2rem 0; vertical-align: top; }
p { margin: 0.2rem 0 0.5rem 4.5rem; }
"""


def api_page(document: Mapping[str, Any]) -> str:
    """Return the page: every operation by its tag, with parameters, bodies and answers."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>{escape(document['info']['title'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(document['info']['title'])}</h1>",
        "<p style='margin-left:0'>Requests carry <code>Authorization: Bearer KEY</code>. "
        "The same for programs: <a href='openapi.json'>openapi.json</a>.</p>",
    ]
    for tag, operations in _by_tag(document).items():
        parts.append(f"<h2>{escape(tag)}</h2>")
        parts += operations
    return "\n".join([*parts, "</body></html>\n"])


def _by_tag(document: Mapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tag = next(iter(operation.get("tags", ())), "operations")
            found.setdefault(tag, []).append(_operation(method, path, operation))
    return found


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(what)}</code></td><td>{escape(text)}</td></tr>" for what, text in _rows(operation)
    )
    description = operation.get("description")
    summary = f"<b>{method.upper()}</b> <code>{escape(path)}</code> {escape(operation.get('summary', ''))}"
    prose = f"<p>{escape(description)}</p>" if description else ""
    return f"<details><summary>{summary}</summary>{prose}<table>{rows}</table></details>"


def _rows(operation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for parameter in operation.get("parameters", ()):
        need = "required" if parameter.get("required") else "optional"
        yield parameter["name"], f"{parameter['in']}, {need}. {parameter.get('description', '')}".rstrip()
    if (body := operation.get("requestBody")) is not None:
        yield "body", ", ".join(body.get("content", {}))
    for status, answer in operation.get("responses", {}).items():
        yield str(status), str(answer.get("description", ""))
