"""The documents are complete: whoever adds a setting or an error code adds its line."""

from __future__ import annotations

import re

from fakeredis import FakeRedis

from api.app import create_app
from common.errors import SLMError
from common.settings import ROOT, Settings
from common.subscriber import Subscriber


def setting_rows() -> list[str]:
    """The README's table as the settings want it."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`".replace(f"{ROOT}/", "")
        rows.append(f"| `SLM_{name.upper()}` | {default} | {field.description} |")
    return rows


def error_codes(cls: type[SLMError] = SLMError) -> set[tuple[str, int]]:
    found = {(cls.code, cls.status)}
    for child in cls.__subclasses__():
        found |= error_codes(child)
    return found


def sections_with_samples() -> list[str]:
    """The headings of the user's document under which there is code."""
    document = (ROOT / "docs" / "slm_api_documentation.md").read_text("utf-8")
    parts = re.split(r"^###? ", document, flags=re.MULTILINE)[1:]
    return [part.splitlines()[0] for part in parts if "```" in part]


def test_every_sample_of_the_users_document_is_gone_through_in_its_order() -> None:
    page = (ROOT / "docs" / "your-document.md").read_text("utf-8")
    assert re.findall(r"^\| ([^|]+) \| (?:yes|no)", page, re.MULTILINE) == sections_with_samples()


def test_the_readme_lists_every_setting_with_its_default() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [row for row in setting_rows() if row not in readme] == []


def test_every_error_code_is_documented_with_its_status() -> None:
    document = (ROOT / "docs" / "errors.md").read_text()
    assert {
        f"| `{code}` | {status} |" for code, status in error_codes() if f"| `{code}` | {status} |" not in document
    } == set()


def test_every_route_is_in_the_readme() -> None:
    redis = FakeRedis()
    app = create_app(Settings(), redis=redis, ring=lambda _: None, subscriber=Subscriber(redis))
    readme = (ROOT / "README.md").read_text().replace("<id>", "<job_id>")
    rules = {rule.rule for rule in app.url_map.iter_rules() if rule.endpoint != "static"}
    assert {rule for rule in rules if rule not in readme} == set()
