"""The message and its signature."""

from __future__ import annotations

import hmac
import json
import time
from base64 import b64decode, b64encode
from hashlib import sha256

import pytest
from standardwebhooks import Webhook

from api.jobs import response_bodies
from api.service import JobView
from api.webhooks.message import body_of, headers
from common.errors import PromptTooLong
from common.settings import Settings
from tests.api_in_process import Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import SECRET, StartApi

KEY = b64decode(SECRET.removeprefix("whsec_"))


def test_the_headers_say_what_was_signed() -> None:
    made = headers(KEY, "j1", b"{}", now_s=1614265330)
    assert (made["webhook-id"], made["webhook-timestamp"]) == ("msg_j1", "1614265330")
    expected = b64encode(hmac.digest(KEY, b"msg_j1.1614265330.{}", sha256)).decode()
    assert made["webhook-signature"] == f"v1,{expected}"


@pytest.mark.parametrize("length", [24, 25, 26, 32, 64])
def test_every_secret_that_the_settings_accept_signs_as_the_specification_says(length: int) -> None:
    """base64 of these lengths ends with no, two and one `=`."""
    key = bytes(range(255, 255 - length, -1))  # its base64 has "+" and "/"
    secret = f"whsec_{b64encode(key).decode()}"
    read = Settings(webhook_secret=secret).webhook_key
    assert read == key
    body = b'{"text": "caf\\u00e9"}'
    made = headers(read, "j1", body, now_s=int(time.time()))
    signed = f"msg_j1.{made['webhook-timestamp']}.".encode() + body
    assert made["webhook-signature"] == "v1," + b64encode(hmac.digest(key, signed, sha256)).decode()
    assert Webhook(secret).verify(body, made) == {"text": "café"}


def view(api: Api, job_id: str) -> JobView:
    service = api.client.application.extensions["slm"].jobs
    found: JobView = service.view(job_id)
    return found


def test_the_data_is_the_polled_job(api: Api) -> None:
    job_id = api.generate().json["job_id"]
    message = json.loads(body_of(view(api, job_id)))
    polled = api.job(job_id)
    assert message == {"type": "job.succeeded", "timestamp": polled["finished_at"], "data": polled}
    assert message["data"] == json.loads(json.dumps(response_bodies.job(view(api, job_id))))


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_the_type_is_how_the_job_ended(start_api: StartApi, end: str) -> None:
    def script(play: Play) -> None:
        play.fail(PromptTooLong("x")) if end == "failed" else play.run_until_cancelled()

    api = start_api(script)
    job_id = api.submit()
    if end == "cancelled":
        api.client.delete(f"/slm/jobs/{job_id}")
    api.finish(job_id)
    assert json.loads(body_of(view(api, job_id)))["type"] == f"job.{end}"
