"""Vendored files are the published ones, and browsers may cache them."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

import api as api_package
from tests.api_in_process import Api

VENDOR = Path(api_package.__file__).parent / "static" / "vendor"


def test_every_script_has_the_hash_that_the_readme_states() -> None:
    stated = re.findall(r"^\| `(\S+)` .* `([0-9a-f]{64})` \|$", (VENDOR / "README.md").read_text(), re.MULTILINE)
    present = {(file.name, sha256(file.read_bytes()).hexdigest()) for file in VENDOR.glob("*.js")}
    assert present
    assert set(stated) == present


def test_every_script_has_its_licences_beside_it() -> None:
    for file in VENDOR.glob("*.js"):
        assert "MIT License" in (VENDOR / file.name.replace(".min.js", ".LICENSE.txt")).read_text()


def test_browsers_keep_what_has_its_version_in_its_name_and_nothing_else(api: Api) -> None:
    cached = {}
    for path in ("vendor/rapidoc-9.3.8.min.js", "docs.js"):
        with api.client.get(f"/static/{path}") as answer:
            assert answer.status_code == 200
            cached[path] = answer.headers["Cache-Control"]
    assert cached == {"vendor/rapidoc-9.3.8.min.js": "public, max-age=31536000", "docs.js": "no-cache"}


def test_the_reference_page_allows_no_inline_script_and_nothing_from_elsewhere(api: Api) -> None:
    with api.client.get("/docs") as page:
        policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "object-src": "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "'self' data:",
    }
