"""Declares who may use each route. A route without a rule is for admins only.

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

    PUBLIC = "public"  # everybody, even without a key
    USER = "user"  # everybody with a key
    WORKER = "worker"  # workers of other hosts
    TRAINER = "trainer"  # admins, and everybody whose key has the role `trainer`
    ADMIN = "admin"


def set_access(blueprint: Blueprint, access: Access, **views: Access) -> None:
    """Set the rule for a blueprint's routes, with exceptions by view name.

    Must be called before the blueprint is registered.
    """

    def enter(state: BlueprintSetupState) -> None:
        named = {f"{state.name}.{view}": rule for view, rule in views.items()}
        rules_of(cast(Flask, state.app)).update({state.name: access} | named)

    blueprint.record(enter)


def rules_of(app: Flask) -> dict[str, Access]:
    """Return the application's rules by the names of blueprints and endpoints. Static files are public."""
    return cast(dict[str, Access], app.extensions.setdefault(_EXTENSION, {"static": Access.PUBLIC}))


def access_of(app: Flask, endpoint: str) -> Access | None:
    """Return the rule of an endpoint; None if it has none."""
    rules = rules_of(app)
    return rules.get(endpoint) or rules.get(endpoint.rpartition(".")[0])
