"""The route that shows the settings in force."""

from __future__ import annotations

import re

from flask import Blueprint, Response, jsonify

from api.auth.access import Access, set_access
from api.current import services
from api.schemas.settings import ShownSetting, ShownSettings
from common.settings import ENV_PREFIX, SECRETS, Settings

shown_settings = Blueprint("shown_settings", __name__)
set_access(shown_settings, Access.ADMIN)

_LOGIN = re.compile(r"(?<=://)[^/?#\s]*@")  # of a URL


@shown_settings.get("/slm/settings")
def list_settings() -> Response:
    """List this API process's settings; the values of secrets are left out."""
    found = services().settings
    return jsonify(ShownSettings(success=True, settings=[_shown(found, name) for name in Settings.model_fields]))


def _shown(settings: Settings, name: str) -> ShownSetting:
    field, value = Settings.model_fields[name], getattr(settings, name)
    is_secret = name in SECRETS
    return ShownSetting(
        name=f"{ENV_PREFIX}{name.upper()}",
        value=None if is_secret else _written(value),
        default=_written(field.get_default(call_default_factory=True)),
        is_default=value == field.get_default(call_default_factory=True),
        is_secret=is_secret,
        description=field.description or "",
    )


def _written(value: object) -> str | None:
    """Return the value as it is written in the environment, without the login of a URL; None if it is not set."""
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else _LOGIN.sub("***@", str(value))
