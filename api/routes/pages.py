"""Serves the page and the API reference; their parts are plain files under `/static/`."""

from __future__ import annotations

from flask import Blueprint, Response, current_app

from api.auth.access import Access, set_access

pages = Blueprint("pages", __name__)
set_access(pages, Access.PUBLIC)

# Nothing from other hosts and nothing inline: a model's answer cannot run a script.
_CSP = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
# RapiDoc styles its elements inline and draws an arrow from a data URL; scripts follow the same rule as above.
_DOCS_CSP = f"{_CSP}; style-src 'unsafe-inline'; img-src 'self' data:"


@pages.get("/")
def index() -> Response:
    """Return the page, which is built from `web/`."""
    return _page("app/index.html", _CSP)


@pages.get("/docs")
def docs() -> Response:
    """Return the page that shows `/openapi.json`."""
    return _page("docs.html", _DOCS_CSP)


def _page(file: str, csp: str) -> Response:
    page = current_app.send_static_file(file)
    page.headers["Content-Security-Policy"] = csp
    page.headers["Referrer-Policy"] = "no-referrer"
    return page
