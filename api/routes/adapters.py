"""The routes for everything that a request can name: models, adapters and their versions, aliases."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from api import adapter_views
from api.adapter_views import Surroundings
from api.auth.access import Access, set_access
from api.current import begin_work, caller, note_change, services
from api.http.request_body import json_text
from api.http.upload_body import receive_file
from api.jobs.request import wants_no_wait
from api.overview import without_internals
from api.routes.jobs import run_job, submit_job
from api.schemas.adapters import AliasBody
from api.schemas.json_object import json_object
from api.schemas.parsing import SLM, parse
from api.service import NewJob
from common.adapters.names import split_version
from common.errors import Conflict, InvalidRequest, SLMError
from common.jobs.job import JobKind
from common.jobs.store import JobOptions

adapters = Blueprint("adapters", __name__, url_prefix="/slm")
set_access(
    adapters,
    Access.ADMIN,
    list_models=Access.USER,
    list_adapters=Access.USER,
    show_adapter=Access.USER,
    list_aliases=Access.USER,
)


@adapters.get("/models")
def list_models() -> Response:
    """List everything that a request can name."""
    registry = services().registry
    numbers = {name: [one.number for one in versions] for name, versions in registry.all_versions().items()}
    return jsonify(success=True, models=adapter_views.models(registry.known(), numbers, _surroundings()))


@adapters.delete("/models/<path:name>")
def delete_model(name: str) -> Response:
    """Forget a base model that no worker serves any more."""
    serving = [worker.id for worker in services().overview.workers() if worker.base_name == name]
    if serving:
        raise Conflict(f"{name!r} is served by the worker {serving[0]}. Nothing was deleted.", param="name")
    services().registry.forget_base(name)
    return jsonify(success=True, name=name)


@adapters.get("/adapters")
def list_adapters() -> Response:
    """List all adapters with their versions."""
    registry, around = services().registry, _surroundings()
    found = [adapter_views.adapter(versions, around) for versions in registry.all_versions().values()]
    return jsonify(success=True, adapters=found)


@adapters.get("/adapters/<name>")
def show_adapter(name: str) -> Response:
    """Show an adapter, or one of its versions."""
    adapter, number = split_version(name)
    versions = services().registry.versions(adapter)
    if number is None and versions:
        return jsonify(adapter_views.adapter(versions, _surroundings()) | {"success": True})
    for version in versions:
        if version.number == number:
            return jsonify(adapter_views.version(adapter, number, version.facts, _surroundings()) | {"success": True})
    raise services().registry.no_adapter(name)


@adapters.post("/adapters")
def upload_adapter() -> Response:
    """Publish an uploaded adapter as the newest version of its name."""
    name = request.args.get("name")
    if name is None:
        raise InvalidRequest("name must be the adapter's name, as in ?name=support; got nothing", param="name")
    services().registry.check_free(name)
    note_change(name)
    uploads = services().uploads
    with uploads.receive() as upload:
        receive_file(upload.file, services().settings.max_adapter_bytes)
    begin_work()  # only now, so that a slow client does not delay others
    options = JobOptions(model=request.args.get("base", ""))
    job = NewJob(caller().owner, JobKind.PUBLISH, {"name": name, "upload": upload.id}, options, upload.id)
    try:
        return submit_job(job) if wants_no_wait() else run_job(job)
    except SLMError as err:
        uploads.remove(upload.id)
        raise err.renamed({"model": "base"}) from err


@adapters.delete("/adapters/<name>")
def delete_adapter(name: str) -> Response:
    """Delete an adapter, or one of its versions."""
    adapter, number = split_version(name)
    return jsonify(success=True, name=adapter, versions=services().registry.delete(adapter, number))


@adapters.get("/aliases")
def list_aliases() -> Response:
    """List all aliases."""
    is_admin = caller().is_admin
    found = [adapter_views.alias(one, is_admin=is_admin) for one in services().registry.aliases()]
    return jsonify(success=True, aliases=found)


@adapters.put("/aliases/<alias>")
def set_alias(alias: str) -> Response:
    """Point an alias to what a name stands for now."""
    body = parse(AliasBody, json_object(json_text()), SLM)
    found = services().registry.set_alias(alias, body.model, set_by=caller().owner)
    note_change(alias, found.target)
    return jsonify(adapter_views.alias(found, is_admin=True) | {"success": True})


@adapters.post("/aliases/<alias>/rollback")
def roll_back_alias(alias: str) -> Response:
    """Point an alias to its previous target again."""
    found = services().registry.rollback(alias, set_by=caller().owner)
    note_change(alias, found.target)
    return jsonify(adapter_views.alias(found, is_admin=True) | {"success": True})


@adapters.delete("/aliases/<alias>")
def delete_alias(alias: str) -> Response:
    """Delete an alias."""
    services().registry.delete_alias(alias)
    return jsonify(success=True, name=alias)


def _surroundings() -> Surroundings:
    workers = services().overview.workers()
    is_admin = caller().is_admin
    workers = workers if is_admin else without_internals(workers)
    return Surroundings(services().registry.aliases(), workers, is_admin=is_admin)
