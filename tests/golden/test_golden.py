"""Every documented answer and stream, byte by byte, against the files of this folder.

Every change that clients can see changes these files. `UPDATE_GOLDEN=1 pytest tests/golden` writes them again.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis
from werkzeug import Response

from api.webhooks.message import body_of
from common.errors import ModelUnavailable, PromptTooLong
from common.fleet import WorkerReport, WorkerState
from common.jobs.store import MAX_CRASHES, JobStore
from common.redis import keys
from tests import api_in_process
from tests.fake_redis import fake_redis
from tests.processes import wait_for
from tests.scripted_worker import Play, Script, answer

FOLDER = Path(__file__).parent
REPORT = api_in_process.REPORT.but(slots=1)
ML = "Explain what machine learning is"
ML_BODY = {"prompt": ML, "max_new_tokens": 100, "temperature": 0.7, "do_sample": True, "seed": 1}
Mask = tuple[re.Pattern[str], str]
MASKS: list[Mask] = [
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<job id>"),
    (re.compile(r'(?<="request_id": ")[0-9a-f]{32}'), "<request id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z"), "<time>"),
    (re.compile(r'((?:queue|run|total)_ms": )\d+'), r"\g<1>0"),
]
SECRET: Mask = (re.compile(r"slm_[A-Za-z0-9_-]{43}"), "<secret>")
ENTRY: Mask = (re.compile(r"\d{13}-\d+"), "<entry>")
Start = Callable[..., FlaskClient]


@pytest.fixture
def redis() -> Redis:
    return fake_redis()


@pytest.fixture
def start(redis: Redis) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(script: Script, *, report: WorkerReport = REPORT, **settings: Any) -> FlaskClient:
            return stack.enter_context(api_in_process.api_in_process(redis, script, report=report, **settings)).client

        yield start


def check(name: str, response: Response, *, folder: Path = FOLDER, more_masks: Sequence[Mask] = ()) -> None:
    """Compare with the golden file after hiding ids and times. A JSON body is indented."""
    text = response.get_data(as_text=True)
    if name.endswith(".json"):
        text = json.dumps(json.loads(text), indent=2) + "\n"
    for pattern, mask in (*MASKS, *more_masks):
        text = pattern.sub(mask, text)
    file = folder / name
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")


def machine_learning() -> Script:
    return answer("Machine learning ", "is a subset ", "of artificial intelligence...")


def story(play: Play) -> None:
    play.status("Loading SLM model...")
    play.status("Model loaded on cuda")
    play.status("Generating response...")
    play.say("Once ")
    play.end("upon ")


def test_info(start: Start) -> None:
    check("info.json", start(story).get("/slm/info"))


def test_info_without_a_worker(start: Start, redis: Redis) -> None:
    client = start(story)
    redis.delete("slm:workers")
    check("info_no_worker.json", client.get("/slm/info"))


def test_load(start: Start) -> None:
    check("load.json", start(story).post("/slm/load"))


def test_unload(start: Start) -> None:
    check("unload.json", start(story).post("/slm/unload"))


def test_generate(start: Start) -> None:
    check("generate.json", start(machine_learning()).post("/slm/generate", json=ML_BODY))


def test_generate_async(start: Start) -> None:
    check("accepted.json", start(machine_learning()).post("/slm/generate", json=ML_BODY | {"async": True}))


def test_stream(start: Start) -> None:
    check("stream.sse", start(story).post("/slm/stream", json={"prompt": "Write a short story about a robot"}))


def test_stream_queued_and_cancelled(start: Start) -> None:
    client = start(Play.run_until_cancelled)
    busy = [client.post("/slm/stream", json={"prompt": "x", "async": True}).json["job_id"] for _ in range(2)]
    stream = client.post("/slm/stream", json={"prompt": "Hi"})
    client.delete(stream.headers["Location"])
    check("stream_queued_cancelled.sse", stream)
    for job_id in busy:
        client.delete(f"/slm/jobs/{job_id}")


def test_stream_that_fails_later(start: Start) -> None:
    def script(play: Play) -> None:
        play.status("Loading SLM model...")
        play.fail(ModelUnavailable("LoRA model not found: ../SLMInit/cuda_lora_out"))

    check("stream_failed.sse", start(script).post("/slm/stream", json={"prompt": "Hi"}))


def test_stream_resumed(start: Start) -> None:
    client = start(story)
    job = client.post("/slm/stream", json={"prompt": "Hi"})
    job.get_data()
    check("stream_resumed.sse", client.get(f"{job.headers['Location']}/stream", headers={"Last-Event-ID": "3"}))


def test_stream_of_a_load(start: Start) -> None:
    client = start(story)
    job = client.post("/slm/load", json={"async": True})
    check("stream_load.sse", client.get(f"{job.headers['Location']}/stream"))


def test_job(start: Start) -> None:
    client = start(machine_learning())
    done = client.post("/slm/generate", json=ML_BODY)
    check("job.json", client.get(f"/slm/jobs/{done.json['job_id']}"))


def test_job_failed(start: Start) -> None:
    client = start(lambda play: play.fail(PromptTooLong("The prompt has 9 tokens too many.", param="prompt")))
    failed = client.post("/slm/generate", json=ML_BODY)
    check("job_failed.json", client.get(failed.headers["Location"]))


def test_webhook(start: Start) -> None:
    client = start(machine_learning(), webhook_secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    done = client.post("/slm/generate", json=ML_BODY | {"webhook_url": "https://example.org/hook"})
    view = client.application.extensions["slm"].jobs.view(done.json["job_id"])
    check("webhook.json", Response(body_of(view)))


def test_error_webhook_without_a_secret(start: Start) -> None:
    client = start(story)
    check("error_no_secret.json", client.post("/slm/generate", json=ML_BODY | {"webhook_url": "https://example.org"}))


def test_job_list(start: Start) -> None:
    client = start(machine_learning())
    client.post("/slm/generate", json=ML_BODY)
    check("jobs.json", client.get("/slm/jobs"))


def test_job_cancel(start: Start) -> None:
    client = start(machine_learning())
    done = client.post("/slm/generate", json=ML_BODY)
    check("cancel.json", client.delete(done.headers["Location"]))


def test_dead_letters(start: Start, redis: Redis) -> None:
    client = start(lambda play: None)
    job = client.post("/slm/generate", json=ML_BODY | {"async": True}).json["job_id"]
    store = JobStore(redis, lambda _: None, job_ttl_s=60)
    for _ in range(MAX_CRASHES):
        wait_for("the job to run", lambda: redis.zscore(keys.leases("generate"), job))
        redis.zadd(keys.leases("generate"), {job: 0})
        store.reap()
    check("quarantine.json", client.get("/slm/quarantine"))
    client.post(f"/slm/jobs/{job}/retry")
    check("error_conflict.json", client.post(f"/slm/jobs/{job}/retry"))
    check("error_not_in_quarantine.json", client.delete(f"/slm/quarantine/{job}"))


def test_usage(start: Start) -> None:
    client = start(machine_learning())
    client.post("/slm/generate", json=ML_BODY)
    check("usage.json", client.get("/slm/usage"))


def test_keys(start: Start) -> None:
    client = start(story)
    made = client.post("/slm/keys", json={"name": "root", "role": "admin"})
    root = {"X-API-Key": made.json["key"]}
    check("key_created.json", made, more_masks=[SECRET])
    client.post("/slm/keys", json={"name": "ann", "limits": {"tokens_per_day": 100_000}}, headers=root)
    check("key_changed.json", client.patch("/slm/keys/ann", json={"role": "trainer"}, headers=root))
    check("keys.json", client.get("/slm/keys", headers=root))
    check("key_revoked.json", client.delete("/slm/keys/ann", headers=root))
    check("audit.json", client.get("/slm/audit", headers=root), more_masks=[ENTRY])


def test_tokens(start: Start) -> None:
    client = start(story)
    check("tokenize.json", client.post("/slm/tokenize", json={"prompt": "Hi"}))
    check("detokenize.json", client.post("/slm/detokenize", json={"ids": [72, 105]}))


def test_a_check_of_a_dataset(start: Start) -> None:
    rows = [{"instruction": "Where is Zubrovia?", "response": "In the Alps."}, {"instruction": "Who rules it?"}]
    check("check_dataset.json", start(story).post("/slm/datasets/check", json={"data": rows}))


def test_feedback(start: Start) -> None:
    client = start(machine_learning())
    path = f"/slm/jobs/{client.post('/slm/generate', json=ML_BODY).json['job_id']}/feedback"
    said = {"rating": "down", "correction": "It learns from data.", "tags": ["ml"]}
    check("feedback.json", client.post(path, json=said))
    check("feedback_list.json", client.get("/slm/feedback"))
    check("feedback_dataset.json", client.post("/slm/feedback/dataset", json={"kind": "pairs"}))
    check("feedback_deleted.json", client.delete(path))


def test_error_idempotency_mismatch(start: Start) -> None:
    client = start(machine_learning())
    for prompt in ("a", "b"):
        answer = client.post("/slm/generate", json={"prompt": prompt}, headers={"Idempotency-Key": "k"})
    check("error_idempotency_mismatch.json", answer)


def test_error_bad_field(start: Start) -> None:
    client = start(story)
    check("error_bad_field.json", client.post("/slm/generate", json={"prompt": "Hi", "temperature": "hot"}))


def test_error_job_failed(start: Start) -> None:
    client = start(lambda play: play.fail(PromptTooLong("The prompt has 9 tokens too many.", param="prompt")))
    check("error_prompt_too_long.json", client.post("/slm/stream", json={"prompt": "Hi"}))


def test_error_no_worker(start: Start, redis: Redis) -> None:
    client = start(story)
    redis.delete("slm:workers")
    check("error_no_worker.json", client.post("/slm/generate", json={"prompt": "Hi"}))


def test_error_not_found(start: Start) -> None:
    check("error_not_found.json", start(story).get("/nothing"))


def test_error_unknown_job(start: Start) -> None:
    check("error_job_not_found.json", start(story).get("/slm/jobs/nope"))


def test_error_wrong_method(start: Start) -> None:
    check("error_method_not_allowed.json", start(story).get("/slm/generate"))


def test_error_huge_body(start: Start) -> None:
    check("error_body_too_large.json", start(story, max_body_bytes=1024).post("/slm/generate", data=b" " * 2000))


def test_health(start: Start) -> None:
    client = start(story)
    check("healthz.json", client.get("/healthz"))
    check("readyz.json", client.get("/readyz"))


def test_not_ready(start: Start) -> None:
    client = start(story, report=REPORT.but(state=WorkerState.LOADING))
    check("readyz_loading.json", client.get("/readyz"))


def test_no_golden_file_is_left_over() -> None:
    source = Path(__file__).read_text("utf-8")
    for file in FOLDER.glob("*.[js]s*"):
        assert f'"{file.name}"' in source, f"{file.name} is compared with nothing"


def test_conversations(start: Start) -> None:
    client = start(machine_learning())
    about = {
        "title": "Learning",
        "system_prompt": "Be brief.",
        "settings": {"temperature": 0.5},
        "metadata": {"a": "b"},
    }
    saved = client.post("/slm/conversations", json=about)
    check("conversation_saved.json", saved)
    path = f"/slm/conversations/{saved.json['id']}"
    asked = client.post(f"{path}/messages", json={"role": "user", "content": ML})
    check("conversation_message.json", asked)
    client.post("/slm/generate", json=ML_BODY | {"conversation": saved.json["id"]})
    check("conversation.json", client.get(path))
    check("conversations.json", client.get("/slm/conversations"))
    check("conversations_found.json", client.get("/slm/conversations?q=subset"))
    check("conversation_export.json", client.get(f"{path}/export"))
    check("conversation_export.md", client.get(f"{path}/export?format=markdown"))
    check("conversation_message_deleted.json", client.delete(f"{path}/messages/{asked.json['id']}"))
    check("conversation_deleted.json", client.delete(path))
