"""Random requests to a route: bodies, headers, queries and paths.

The names of fields, headers and parameters are the OpenAPI document's, so that requests pass the first check.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from flask.testing import FlaskClient
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from werkzeug.test import TestResponse

FORM = "multipart/form-data"
BOUNDARY = b"fuzz"
ANY_HEADERS = ["Accept", "Accept-Encoding", "Authorization", "Cookie", "Forwarded", "Host", "If-None-Match", "Origin"]
ANY_HEADERS += ["Range", "X-API-Key", "X-Forwarded-For", "X-HTTP-Method-Override", "traceparent"]
BODY_HEADERS = ["Content-Type", "Content-Encoding", "Expect", "Transfer-Encoding"]

Json = dict[str, Any]

numbers = st.sampled_from([0, -1, 1.0, 2**31, 2**63, 2**200, -(2**63) - 1, 1e308, 5e-324])
texts = st.sampled_from(["", " ", "\x00", "\ud800", "💥", "true", "1", "NaN", "../../etc/passwd", "{{7*7}}", "a" * 999])
others = st.sampled_from([None, True, False, [], {}, [[]], [None], {"": None}])
values = st.recursive(
    numbers | texts | others | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)
deep = st.integers(100, 1000).map(lambda levels: b"[" * levels + b"]" * levels)
header_texts = st.sampled_from(["", "0", "-1", "2", "respond-async", "gzip", "chunked", "*/*"]) | st.text(
    st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=30
)
query_texts = st.sampled_from(["", "0", "1", "true", "-1", "1e3", "٣"]) | st.text(max_size=10)


@dataclass(frozen=True)
class Target:
    """A route. `parameters` has names by location; `known` has existing objects by name."""

    method: str
    path: str
    parameters: dict[str, list[str]]
    media_type: str | None
    example: Json
    fields: list[str]
    known: dict[str, str]

    @classmethod
    def of(cls, document: Json, operation_id: str, known: dict[str, str]) -> Target:
        """The route of an operation in the OpenAPI document."""
        [(method, path, operation)] = [
            (method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if operation["operationId"] == operation_id
        ]
        parameters: dict[str, list[str]] = {"path": [], "query": [], "header": []}
        for parameter in operation["parameters"]:
            parameters[parameter["in"]].append(parameter["name"])
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
            example = content["example"] | {name: known[name] for name in content["example"].keys() & known.keys()}
            return cls(method, path, parameters, media_type, example, sorted(schema["properties"]), known)
        return cls(method, path, parameters, None, {}, ["x"], known)


@dataclass(frozen=True)
class Fuzz:
    """One request."""

    target: Target
    path: dict[str, str]
    query: str
    headers: dict[str, str]
    body: bytes

    def send(self, client: FlaskClient) -> TestResponse:
        return client.open(
            self.target.path.format_map({name: quote(value, safe="") for name, value in self.path.items()}),
            method=self.target.method,
            query_string=self.query,
            headers=self.headers,
            data=self.body,
            buffered=True,
        )


def requests_to(target: Target) -> SearchStrategy[Fuzz]:
    return st.builds(
        Fuzz,
        target=st.just(target),
        path=_paths(target),
        query=_queries(target),
        headers=_headers(target),
        body=_forms(target) if target.media_type == FORM else _bodies(target),
    )


def _paths(target: Target) -> SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries(
        {name: st.just(target.known[name]) | st.text(min_size=1, max_size=20) for name in target.parameters["path"]}
    )


def _queries(target: Target) -> SearchStrategy[str]:
    named = st.dictionaries(st.sampled_from([*target.parameters["query"], "x"]), query_texts, max_size=3)
    known = {name: target.known[name] for name in target.parameters["query"] if name in target.known}
    return (
        st.just(urlencode(known))
        | named.map(lambda drawn: known | drawn).map(urlencode)
        | named.map(urlencode)
        | st.text(st.characters(codec="ascii"), max_size=20)
    )


def _headers(target: Target) -> SearchStrategy[dict[str, str]]:
    names = [*target.parameters["header"], *ANY_HEADERS, *(BODY_HEADERS if target.media_type else [])]
    form = f"{FORM}; boundary={BOUNDARY.decode()}"
    usual = {"Content-Type": form if target.media_type == FORM else "application/json"}
    return st.dictionaries(st.sampled_from(names), header_texts, max_size=2).map(lambda drawn: usual | drawn)


def _bodies(target: Target) -> SearchStrategy[bytes]:
    """Usually the example with some of its fields changed."""
    names = st.sampled_from([*target.fields, "x"])
    changed = st.dictionaries(names, values, max_size=3).map(lambda some: _json(target.example | some))
    nested = st.builds(lambda name, value: _json(target.example | {name: "?"}).replace(b'"?"', value), names, deep)
    return st.one_of(changed, changed, changed, nested, values.map(_json), st.binary(max_size=50))


def _forms(target: Target) -> SearchStrategy[bytes]:
    """Usually a form with the right fields."""
    text = st.binary(max_size=20) | st.sampled_from([b"", b"a.jsonl", b"../../x", b"\xff", b"a\x00b", b'"'])
    name = st.sampled_from([one.encode() for one in target.fields]) | text
    file = st.builds(lambda name, of, content: _part(b'%s"; filename="%s' % (name, of), content), name, text, text)
    fixed = {
        name: _part(name.encode(), str(value).encode()) for name, value in target.example.items() if name != "file"
    }
    parts = st.lists(file | st.builds(_part, name, text) | st.sampled_from([b"", *fixed.values()]), max_size=3)
    end = b"--" + BOUNDARY + b"--\r\n"
    whole = parts.map(lambda some: b"".join([*fixed.values(), *some, end]))
    return st.one_of(whole, whole, whole, st.binary(max_size=50))


def _part(name: bytes, content: bytes) -> bytes:
    return b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (BOUNDARY, name, content)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
