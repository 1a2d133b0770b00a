"""The chat page, as a person uses it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from redis import Redis

from api.auth.keyring import CACHE_S
from common.errors import ModelUnavailable, PromptTooLong
from common.owners.api_keys import ApiKeyStore, Role
from tests.api_process import running_api
from tests.browser.conftest import PHONE, WIDE, OpenPage, Visit
from tests.free_port import free_port
from tests.redis_server import RedisServer
from tests.scripted_worker import TIMEOUT_S, Play, Script, ScriptedWorker, answer

Picture = Callable[[Page, str], None]
EVIL = '<img src=x onerror="window.broken=1"><script>window.broken=1</script> & <b>bold</b>'


def ask(visit: Visit, text: str) -> None:
    visit.page.get_by_label("Message").fill(text)
    visit.page.keyboard.press("Enter")


def in_steps(go_on: threading.Event, *pieces: str) -> Script:
    """Say the first piece, wait, say the rest."""

    def script(play: Play) -> None:
        play.status("Generating response...")
        play.say(pieces[0])
        assert go_on.wait(TIMEOUT_S)
        play.say(*pieces[1:-1])
        play.end(pieces[-1])

    return script


def test_an_answer_appears_as_it_is_generated(open_page: OpenPage) -> None:
    go_on = threading.Event()
    visit = open_page(in_steps(go_on, "Once ", "upon ", "a time."))
    ask(visit, "Tell me a story")
    answers = visit.page.locator(".message.answer .text")
    expect(visit.page.locator(".message.user .text")).to_have_text("Tell me a story")
    expect(answers).to_have_text("Once")
    expect(visit.page.get_by_role("button", name="Stop")).to_be_enabled()
    go_on.set()
    expect(answers).to_have_text("Once upon a time.")
    expect(visit.page.locator(".message.answer .note")).to_contain_text("3 tokens in")
    expect(visit.page.get_by_role("button", name="Send")).to_be_visible()
    assert visit.complaints == []


def test_stop_ends_the_job_and_keeps_what_was_written(open_page: OpenPage) -> None:
    def script(play: Play) -> None:
        play.say("so far")
        play.run_until_cancelled()

    visit = open_page(script)
    ask(visit, "Go on for ever")
    expect(visit.page.locator(".message.answer .text")).to_have_text("so far")
    visit.page.get_by_role("button", name="Stop").click()
    expect(visit.page.locator(".message.answer .note")).to_contain_text("Stopped")
    expect(visit.page.locator(".message.answer .text")).to_have_text("so far")
    expect(visit.page.get_by_role("button", name="Send")).to_be_visible()


def test_markup_is_shown_as_text_and_does_nothing(open_page: OpenPage) -> None:
    visit = open_page(answer(EVIL))
    ask(visit, EVIL)
    for message in (".message.user .text", ".message.answer .text"):
        expect(visit.page.locator(message)).to_have_text(EVIL)
    assert visit.page.evaluate("window.broken") is None
    assert visit.page.locator("#chat :is(img, script, b)").count() == 0


def test_requests_carry_the_key_that_was_entered(open_page: OpenPage, real_redis: Redis) -> None:
    secret = ApiKeyStore(real_redis).create("ann", Role.USER)
    time.sleep(CACHE_S)  # the API may know an older state of the keys
    visit = open_page(answer("a ", "b"))
    field = visit.page.get_by_label("API key")
    expect(visit.page.locator("#model-name")).to_contain_text("needs an API key")
    field.fill("slm_wrong")
    visit.page.get_by_role("button", name="Use key").click()
    expect(field).to_be_visible()  # only its form shows that it is invalid
    field.fill(secret)
    visit.page.get_by_role("button", name="Use key").click()
    expect(field).to_be_hidden()
    expect(visit.page.locator("#model")).to_have_attribute("data-state", "ready")
    ask(visit, "Hi")
    expect(visit.page.locator(".message.answer .text")).to_have_text("a b")
    expect(visit.page.locator(".message.answer .note")).to_contain_text("2 tokens in")
    assert visit.page.evaluate("Object.values(localStorage).length") == 0
    assert not any(secret in url for url in visit.requests)
    real_redis.flushall()
    time.sleep(CACHE_S)


def test_no_other_host_is_contacted(open_page: OpenPage) -> None:
    visit = open_page(answer("a ", "b"))
    ask(visit, "Hi")
    expect(visit.page.locator(".message.answer .text")).to_have_text("a b")
    assert visit.requests
    assert all(url.startswith(f"{visit.api.url}/") for url in visit.requests)


def test_foreign_scripts_are_refused(open_page: OpenPage) -> None:
    visit = open_page(answer("x"))
    visit.page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.broken = 1";
        document.body.append(script);
    }""")
    assert visit.page.evaluate("window.broken") is None
    assert "Content Security Policy" in visit.complaints[0]


def test_shift_enter_makes_a_new_line_and_enter_sends(open_page: OpenPage) -> None:
    visit = open_page(lambda play: play.end(play.prompt))
    box = visit.page.get_by_label("Message")
    box.fill("one")
    box.press("Shift+Enter")
    box.type("two")
    box.press("Enter")
    expect(visit.page.locator(".message.answer .text")).to_have_text("one\ntwo", use_inner_text=True)
    expect(box).to_have_value("")


def test_a_blank_message_is_not_sent(open_page: OpenPage) -> None:
    visit = open_page(answer("x"))
    ask(visit, "   ")
    assert visit.page.locator(".message").count() == 0


def test_the_settings_are_sent(open_page: OpenPage) -> None:
    seen = []

    def script(play: Play) -> None:
        seen.append(play.job.params["sampling"])
        play.end("x")

    visit = open_page(script)
    visit.page.get_by_text("Settings").click()
    visit.page.get_by_label("Temperature").fill("0.25")
    visit.page.get_by_label("Maximum new tokens").fill("7")
    visit.page.get_by_label("Sample").uncheck()
    ask(visit, "Hi")
    expect(visit.page.locator(".message.answer .text")).to_have_text("x")
    sent = seen[0]
    assert (sent["temperature"], sent["max_new_tokens"], sent["do_sample"]) == (0.25, 7, False)


def test_a_setting_out_of_range_is_shown_and_not_sent(open_page: OpenPage) -> None:
    visit = open_page(answer("x"))
    visit.page.get_by_text("Settings").click()
    visit.page.get_by_label("Temperature").fill("9")
    visit.page.get_by_text("Settings").click()
    ask(visit, "Hi")
    expect(visit.page.get_by_label("Temperature")).to_be_visible()
    assert visit.page.locator(".message").count() == 0


def test_a_refused_prompt_says_why(open_page: OpenPage) -> None:
    visit = open_page(lambda play: play.fail(PromptTooLong("The prompt has 9 tokens too many.", param="prompt")))
    ask(visit, "Hi")
    expect(visit.page.locator(".message.answer.failed .note")).to_have_text("The prompt has 9 tokens too many.")
    expect(visit.page.get_by_role("button", name="Send")).to_be_visible()


def test_a_failure_midway_says_why_and_keeps_the_text(open_page: OpenPage) -> None:
    def script(play: Play) -> None:
        play.say("half an ")
        play.fail(ModelUnavailable("The model is gone."))

    visit = open_page(script)
    ask(visit, "Hi")
    expect(visit.page.locator(".message.answer.failed .note")).to_have_text("The model is gone.")
    expect(visit.page.locator(".message.answer .text")).to_have_text("half an")


def test_a_waiting_user_sees_the_queue_position(open_page: OpenPage) -> None:
    def script(play: Play) -> None:
        if play.prompt == "busy":
            play.run_until_cancelled()
        else:
            play.end("your turn")

    visit = open_page(script)
    slots = visit.worker.report.slots
    params = {"prompt": "busy", "async": True}
    busy = [
        visit.page.request.post(f"{visit.api.url}/slm/generate", data=params).json()["job_id"]
        for _ in range(slots + 1)  # and one wake-up message ahead
    ]
    ask(visit, "Hi")
    expect(visit.page.locator(".message.answer .note")).to_have_text("Waiting in the queue, position 1")
    for job_id in busy:
        visit.page.request.delete(f"{visit.api.url}/slm/jobs/{job_id}")
    expect(visit.page.locator(".message.answer .text")).to_have_text("your turn")


def test_a_broken_connection_is_resumed(open_page: OpenPage) -> None:
    go_on = threading.Event()
    visit = open_page(in_steps(go_on, "before ", "after ", "all"))
    cut_the_first_stream = """() => {
        const real = window.fetch;
        window.fetch = async (path, options) => {
            const response = await real(path, options);
            if (path !== "/slm/stream") return response;
            window.fetch = real;
            const reader = response.body.getReader();
            const chunks = [];
            for (let text = ""; !text.includes("before"); text += new TextDecoder().decode(chunks.at(-1)))
                chunks.push((await reader.read()).value);
            await reader.cancel();
            const body = new ReadableStream({
                start(out) { for (const chunk of chunks) out.enqueue(chunk); },
                pull(out) { out.error(new TypeError("network error")); },
            });
            return new Response(body, { headers: response.headers });
        };
    }"""
    visit.page.evaluate(cut_the_first_stream)
    ask(visit, "Hi")
    expect(visit.page.locator(".message.answer .text")).to_have_text("before")
    go_on.set()
    expect(visit.page.locator(".message.answer .text")).to_have_text("before after all")
    assert any("/slm/jobs/" in url and url.endswith("/stream") for url in visit.requests)


def test_the_page_waits_for_a_restart_of_the_server(
    browser: Browser, redis_server: RedisServer, real_redis: Redis, tmp_path: Path
) -> None:
    go_on = threading.Event()
    port = free_port()
    settings = {"port": port, "redis_url": redis_server.url, "drain_s": 0}
    with ScriptedWorker(real_redis, in_steps(go_on, "before ", "after ", "all")), browser.new_page() as page:
        text, note = page.locator(".message.answer .text"), page.locator(".message.answer .note")
        with running_api(tmp_path, **settings) as api:
            page.goto(api.url)
            page.get_by_label("Message").fill("Hi")
            page.keyboard.press("Enter")
            expect(text).to_have_text("before")
            assert api.stop() == 0
        expect(note).to_contain_text("Waiting for the server")
        time.sleep(17)
        with running_api(tmp_path, **settings):
            go_on.set()
            expect(text).to_have_text("before after all")
            expect(note).to_contain_text("3 tokens in")


def test_the_model_can_be_unloaded_and_loaded(open_page: OpenPage) -> None:
    visit = open_page(answer("x"))
    model = visit.page.get_by_role("status")
    expect(model).to_contain_text("gpt2")
    expect(model).to_contain_text("cuda")
    visit.page.get_by_role("button", name="Unload").click()
    expect(model).to_contain_text("The model is not loaded")
    expect(visit.page.get_by_role("button", name="Unload")).to_be_disabled()
    visit.page.get_by_role("button", name="Load", exact=True).click()
    expect(model).to_contain_text("gpt2")


def test_a_server_without_a_worker_is_reported(open_page: OpenPage) -> None:
    visit = open_page(answer("x"))
    visit.worker.leave()
    visit.page.reload()
    expect(visit.page.get_by_role("status")).to_contain_text("No worker is running")
    expect(visit.page.get_by_role("button", name="Load", exact=True)).to_be_disabled()
    ask(visit, "Hi")
    expect(visit.page.locator(".message.failed .note")).to_contain_text("No worker is alive")


@pytest.mark.parametrize(("name", "size"), [("wide", WIDE), ("phone", PHONE)])
@pytest.mark.parametrize("colors", ["light", "dark"])
def test_everything_fits_on_the_screen(
    open_page: OpenPage, picture: Picture, name: str, size: tuple[int, int], colors: str
) -> None:
    long_line = "a" * 200
    visit = open_page(answer("Once upon a time there was a robot. ", f"\n\nIt said:\n{long_line}"), size, colors=colors)
    ask(visit, "Write a short story about a robot")
    expect(visit.page.locator(".message.answer .note")).to_contain_text("tokens in")
    visit.page.get_by_text("Settings").click()
    picture(visit.page, f"{name}-{colors}")
    assert visit.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for control in ("Send", "Load", "Unload"):
        box = visit.page.get_by_role("button", name=control, exact=True).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size[0]
        assert box["y"] + box["height"] <= size[1]
