"""Which pages of other sites may call the API."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from common.settings import Settings
from tests.unit.api.conftest import StartApi

PAGE = "https://chat.example.com"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, x-stainless-os",
}


def test_by_default_no_page_of_another_site_may_read_an_answer(start_api: StartApi) -> None:
    api = start_api(insecure=True)
    for answer in (
        api.client.get("/slm/info", headers={"Origin": PAGE}),
        api.client.options("/slm/generate", headers=PREFLIGHT),
    ):
        assert answer.status_code == 200
        assert [name for name, _ in answer.headers if name.startswith("Access-Control")] == []


def test_a_page_of_an_allowed_origin_may_ask_and_read_what_it_needs(start_api: StartApi) -> None:
    api = start_api(cors_origins=f"http://localhost:3000, {PAGE}")
    preflight = api.client.options("/slm/generate", headers=PREFLIGHT)
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == PAGE
    allowed = set(preflight.headers["Access-Control-Allow-Methods"].split(", "))
    used = {method for rule in api.client.application.url_map.iter_rules() for method in rule.methods or ()}
    assert used - {"OPTIONS"} <= allowed
    assert preflight.headers["Access-Control-Allow-Headers"] == PREFLIGHT["Access-Control-Request-Headers"]
    answer = api.client.post("/slm/generate", json={"prompt": "Hi"}, headers={"Origin": PAGE})
    assert answer.status_code == 200, "although the server has no keys"
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert answer.headers["Vary"] == "Origin"
    exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"Location", "X-Job-Id", "X-Request-Id", "Retry-After", "X-RateLimit-Remaining"} <= set(exposed)
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        pytest.param("http://localhost:5173", True, id="a port"),
        pytest.param("http://127.0.0.1", True, id="address"),
        pytest.param("http://[::1]:3000", True, id="IPv6"),
        pytest.param("http://localhost.evil.com", False, id="a longer name"),
        pytest.param("http://evil.com", False, id="another site"),
        pytest.param("http://[::1", False, id="no address"),
        pytest.param("null", False, id="a file"),
    ],
)
def test_all_pages_of_this_machine_can_be_allowed(start_api: StartApi, origin: str, is_allowed: bool) -> None:
    api = start_api(cors_origins="localhost")
    answer = api.client.post("/slm/generate", json={"prompt": "Hi"}, headers={"Origin": origin})
    assert answer.headers.get("Access-Control-Allow-Origin") == (origin if is_allowed else None)
    assert answer.status_code == (200 if is_allowed else 403)


def test_an_allowed_page_can_read_errors_and_streams_too(start_api: StartApi) -> None:
    api = start_api(cors_origins=PAGE)
    headers = {"Origin": PAGE}
    assert api.client.get("/nothing", headers=headers).headers["Access-Control-Allow-Origin"] == PAGE
    stream = api.client.post("/slm/stream", json={"prompt": "Hi"}, headers=headers)
    assert stream.headers["Access-Control-Allow-Origin"] == PAGE
    assert stream.get_data()


@pytest.mark.parametrize("origin", ["https://evil.example.com", f"{PAGE}.evil.com", "null", PAGE.upper()])
def test_any_other_origin_gets_nothing(start_api: StartApi, origin: str) -> None:
    answer = start_api(cors_origins=PAGE).client.get("/healthz", headers={"Origin": origin})
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert answer.headers["Vary"] == "Origin"


def test_a_star_lets_every_page_read_but_opens_no_server_without_keys(start_api: StartApi) -> None:
    api = start_api(cors_origins="*")
    health = api.client.get("/healthz", headers={"Origin": PAGE})
    assert health.headers["Access-Control-Allow-Origin"] == PAGE
    assert api.client.get("/slm/info", headers={"Origin": PAGE}).status_code == 403


def test_a_page_from_a_file_is_allowed_if_the_setting_says_so(start_api: StartApi) -> None:
    headers = {"Origin": "null"}
    assert start_api().client.get("/slm/info", headers=headers).status_code == 403
    answer = start_api(cors_origins=f"null, {PAGE}").client.get("/slm/info", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "null"


@pytest.mark.parametrize("origins", ["chat.example.com", f"{PAGE}/", f"{PAGE}/path", "https://a b", "ftp://a"])
def test_an_invalid_origin_is_refused(origins: str) -> None:
    with pytest.raises(ValidationError, match="is not an origin"):
        Settings(cors_origins=origins)
