"""The models of a batch are fixed when it is created, whatever is published while its lines wait."""

from __future__ import annotations

from typing import Any

import pytest

from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from common.errors import Conflict
from tests.api_in_process import Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.test_batches import batch, begin, drive_to_the_end, drive_until, driver_of, jobs, line, read


def publish(api: Api) -> AdapterRegistry:
    """Give `support` its first version, and let `prod` point to it."""
    registry = AdapterRegistry(api.redis)
    registry.register("support", VersionFacts("a1", "gpt2"))
    registry.set_alias("prod", "support", set_by="ops")
    return registry


def move_on(registry: AdapterRegistry) -> None:
    """Publish the second version."""
    registry.register("support", VersionFacts("a2", "gpt2"))
    registry.set_alias("prod", "support", set_by="ops")


def models_of(api: Api) -> set[str]:
    return {job["model"] for job in jobs(api)}


def test_the_lines_finish_on_the_versions_of_the_moment_when_the_batch_was_created(api: Api) -> None:
    registry = publish(api)
    names = ("prod", "support", "support@1", "gpt2", "cuda_lora_out")
    batch_id = begin(api, *(line(name, model=name) for name in names)).json["id"]
    move_on(registry)  # the lines have not been read yet
    assert batch(api, batch_id)["models"] == {}
    ended = drive_to_the_end(api, batch_id)
    assert ended["request_counts"] == {"total": 5, "completed": 5, "failed": 0}
    assert ended["models"] == {
        "prod": "support@1",
        "support": "support@1",
        "support@1": "support@1",
        "gpt2": "gpt2",
        "cuda_lora_out": "cuda_lora_out@1",
    }
    assert models_of(api) == {"support@1", "gpt2", "cuda_lora_out@1"}
    answers = {one["custom_id"]: one["response"]["body"] for one in read(api, ended["output_file_id"])}
    assert {name: body["model"] for name, body in answers.items()} == {name: name for name in names}
    prints = {name: body["system_fingerprint"] for name, body in answers.items()}
    assert prints["prod"] == prints["support"] == prints["support@1"] != prints["gpt2"]


def test_lines_that_are_submitted_later_have_the_same_version(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled)
    registry, driver = publish(api), driver_of(api)
    batch_id = begin(api, *(line(str(number), model="prod") for number in range(40))).json["id"]
    drive_until(api, batch_id, lambda now: now["status"] == "in_progress", driver)
    driver.drive()
    move_on(registry)
    early = {job["job_id"] for job in jobs(api)}
    for job_id in early:
        api.client.delete(f"/slm/jobs/{job_id}")
    drive_until(api, batch_id, lambda _: len(jobs(api)) == 40, driver)
    assert models_of(api) == {"support@1"}
    api.client.post(f"/v1/batches/{batch_id}/cancel")
    drive_until(api, batch_id, lambda now: now["status"] == "cancelled", driver)


def test_a_line_fails_if_its_model_did_not_exist_when_the_batch_was_created(api: Api) -> None:
    lines = (line("soon", model="support"), line("version", model="support@1"), line("no text", model=5))
    batch_id = begin(api, *lines).json["id"]
    registry = publish(api)
    ended = drive_to_the_end(api, batch_id)
    failed: dict[str, Any] = {one["custom_id"]: one["response"] for one in read(api, ended["error_file_id"])}
    assert registry.resolve("support") is not None
    assert (failed["soon"]["status_code"], failed["soon"]["body"]["error"]) == (
        404,
        {
            "message": "There was no model 'support' when the batch was created.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        },
    )
    assert failed["no text"]["status_code"] == 400
    assert ended["models"] == {"support@1": "support@1"}  # the name of a version means the same at any time


def test_a_version_that_a_batch_needs_cannot_be_deleted(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled)
    registry = publish(api)
    batch_id = begin(api, *(line(str(number), model="prod") for number in range(40))).json["id"]
    move_on(registry)
    with pytest.raises(Conflict, match=batch_id):
        registry.delete("support", 1)
    drive_until(api, batch_id, lambda now: now["status"] == "in_progress")
    with pytest.raises(Conflict, match=batch_id):
        registry.delete("support", 1)
    api.client.post(f"/v1/batches/{batch_id}/cancel")
    drive_until(api, batch_id, lambda now: now["status"] == "cancelled")
    assert registry.delete("support", 1) == [1]
