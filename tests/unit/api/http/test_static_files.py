"""The files of the page: compressed, cached, in parts."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from common.settings import ROOT
from tests.api_in_process import Api

FILES = ROOT / "api" / "static"
SCRIPT = max((FILES / "app" / "assets").glob("*.js"), key=lambda file: file.stat().st_size)
PATH = f"/static/{SCRIPT.relative_to(FILES)}"
GZIP = {"Accept-Encoding": "br, gzip"}


def get(api: Api, path: str, headers: dict[str, str]) -> TestResponse:
    return api.client.get(path, headers=headers, buffered=True)  # so that files are closed


def test_a_script_is_sent_compressed_if_the_client_accepts_it(shared_api: Api) -> None:
    whole = SCRIPT.read_bytes()
    plain, small = (get(shared_api, PATH, headers) for headers in ({}, GZIP))
    assert plain.data == gzip.decompress(small.data) == whole
    assert "Content-Encoding" not in plain.headers
    assert small.headers["Content-Encoding"] == "gzip"
    assert small.content_length == len(small.data) < len(whole) / 2
    assert plain.headers["Vary"] == small.headers["Vary"] == "Accept-Encoding"
    assert plain.mimetype == small.mimetype == "text/javascript"
    assert "31536000" in small.headers["Cache-Control"]


@pytest.mark.parametrize("accepted", ["gzip;q=0", "identity", "br"])
def test_a_client_that_does_not_accept_it_gets_the_file(shared_api: Api, accepted: str) -> None:
    answer = get(shared_api, PATH, {"Accept-Encoding": accepted})
    assert "Content-Encoding" not in answer.headers
    assert answer.data == SCRIPT.read_bytes()


def test_each_form_has_its_own_etag(shared_api: Api) -> None:
    plain, small = (get(shared_api, PATH, headers).headers["ETag"] for headers in ({}, GZIP))
    assert plain != small
    for headers, known, status in ((GZIP, small, 304), ({}, plain, 304), (GZIP, plain, 200), ({}, small, 200)):
        answer = get(shared_api, PATH, headers | {"If-None-Match": known})
        assert answer.status_code == status
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert (answer.data == b"") is (status == 304)


def test_a_part_is_of_the_file_itself(shared_api: Api) -> None:
    answer = get(shared_api, PATH, GZIP | {"Range": "bytes=10-19"})
    assert (answer.status_code, answer.data) == (206, SCRIPT.read_bytes()[10:20])
    assert "Content-Encoding" not in answer.headers
    refused = get(shared_api, PATH, GZIP | {"Range": "bytes=99999999-"})
    assert (refused.status_code, refused.json["code"]) == (416, "range_not_satisfiable")
    assert refused.headers["Content-Range"] == f"bytes */{SCRIPT.stat().st_size}"
    small = get(shared_api, PATH, GZIP).headers["ETag"]
    whole = get(shared_api, PATH, GZIP | {"Range": "bytes=10-19", "If-Range": small})
    assert (whole.status_code, whole.data) == (200, SCRIPT.read_bytes())


def test_head_describes_what_get_sends(shared_api: Api) -> None:
    for headers in ({}, GZIP):
        head, whole = shared_api.client.head(PATH, headers=headers, buffered=True), get(shared_api, PATH, headers)
        assert head.data == b""
        same = ("Content-Length", "Content-Encoding", "ETag", "Vary", "Content-Type")
        assert [head.headers.get(name) for name in same] == [whole.headers.get(name) for name in same]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_pages_are_compressed_with_their_policies(shared_api: Api, path: str) -> None:
    answer = get(shared_api, path, GZIP)
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


def test_a_small_file_is_sent_as_it_is(shared_api: Api) -> None:
    icon = Path("app/favicon.svg")
    answer = get(shared_api, f"/static/{icon}", GZIP)
    assert answer.data == (FILES / icon).read_bytes()


@pytest.mark.parametrize("name", ["nothing.js", "../app.py", "%2e%2e/app.py", "app"])
def test_nothing_else_is_sent(shared_api: Api, name: str) -> None:
    assert get(shared_api, f"/static/{name}", GZIP).status_code == 404
