"""The message and its signature."""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode
from hashlib import sha256

import pytest

from api import answers
from api.service import JobView
from api.webhooks.message import body_of, headers, sign
from common.errors import PromptTooLong
from tests.api_in_process import Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import SECRET, StartApi

KEY = b64decode(SECRET.removeprefix("whsec_"))


def test_the_signature_is_that_of_the_specification() -> None:
    """Its own example."""
    signature = sign(KEY, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_headers_say_what_was_signed() -> None:
    made = headers(KEY, "j1", b"{}", now_s=12)
    assert (made["webhook-id"], made["webhook-timestamp"]) == ("msg_j1", "12")
    expected = b64encode(hmac.digest(KEY, b"msg_j1.12.{}", sha256)).decode()
    assert made["webhook-signature"] == f"v1,{expected}"


def view(api: Api, job_id: str) -> JobView:
    service = api.client.application.extensions["slm"].jobs
    found: JobView = service.view(job_id)
    return found


def test_the_data_is_the_polled_job(api: Api) -> None:
    job_id = api.generate().json["job_id"]
    message = json.loads(body_of(view(api, job_id)))
    polled = api.job(job_id)
    assert message == {"type": "job.succeeded", "timestamp": polled["finished_at"], "data": polled}
    assert message["data"] == json.loads(json.dumps(answers.job(view(api, job_id))))


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
