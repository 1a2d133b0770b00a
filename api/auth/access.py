"""The rule of each route: who may use it. A route without a rule is refused to everybody but admins.

set_access(slm, Access.USER, load=Access.ADMIN, unload=Access.ADMIN)
"""

from __future__ import annotations

from enum import StrEnum
from typing import cast

from flask import Blueprint, Flask
from flask.blueprints import BlueprintSetupState

_EXTENSION = "slm_access"  # the rules' key in `app.extensions`


class Access(StrEnum):
    """Who may use a route."""

    PUBLIC = "public"  # everybody, also without a key
    USER = "user"  # who has a key
    ADMIN = "admin"


def set_access(blueprint: Blueprint, access: Access, **views: Access) -> None:
    """State the rule of a blueprint's routes, and of those of its views, by name, that have another.

    Must be called before the blueprint is registered.
    """

    def enter(state: BlueprintSetupState) -> None:
        named = {f"{state.name}.{view}": rule for view, rule in views.items()}
        rules_of(cast(Flask, state.app)).update({state.name: access} | named)

    blueprint.record(enter)


def rules_of(app: Flask) -> dict[str, Access]:
    """The application's rules, by the names of blueprints and endpoints. What serves static files is public."""
    return cast(dict[str, Access], app.extensions.setdefault(_EXTENSION, {"static": Access.PUBLIC}))


def access_of(app: Flask, endpoint: str) -> Access | None:
    """The rule of an endpoint; None where nobody has stated one."""
    rules = rules_of(app)
    return rules.get(endpoint) or rules.get(endpoint.rpartition(".")[0])
