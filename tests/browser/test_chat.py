"""The chat of the page, as a person uses it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Browser, Page, Route, expect
from redis import Redis

from api.auth.keyring import CACHE_S
from common.errors import ModelUnavailable, PromptTooLong
from common.jobs.sampling import Grammar, GrammarKind
from common.owners.api_keys import ApiKeyStore, Role
from tests.api_process import running_api
from tests.browser.chat import answers, ask, note, said, write
from tests.browser.conftest import PATIENCE_MS, PHONE, WIDE, OpenPage, in_chromium
from tests.browser.violations import violations_on
from tests.free_port import free_port
from tests.redis_server import RedisServer
from tests.scripted_worker import TIMEOUT_S, Play, Script, ScriptedWorker, answer

Picture = Callable[[Page, str], None]
EVIL = (
    '<img src=x onerror="window.broken=1"><script>window.broken=1</script> [a](javascript:window.broken=1) <b>bold</b>'
)
RICH = """A **short** answer with `code`:

1. One
2. Two

```python
def greet(name):
    return f"Hello, {name}!"
```

| name | value |
|:-----|------:|
| a    |  1.50 |
"""


def in_steps(go_on: threading.Event, *pieces: str) -> Script:
    """Say the first piece, wait, say the rest."""

    def script(play: Play) -> None:
        play.status("Generating response...")
        play.say(pieces[0])
        assert go_on.wait(TIMEOUT_S)
        play.say(*pieces[1:-1])
        play.end(pieces[-1])

    return script


INSECURE = """
delete Crypto.prototype.randomUUID;
delete Navigator.prototype.clipboard;
"""  # what a page lacks that was loaded over HTTP from another machine


@pytest.mark.parametrize("is_here", [False, True])
def test_a_page_over_plain_http_can_chat(open_page: OpenPage, is_here: bool) -> None:
    visit = open_page(answer("Hello there."))
    visit.page.add_init_script(INSECURE)
    visit.page.reload()
    assert visit.page.evaluate("crypto.randomUUID === undefined && navigator.clipboard === undefined")
    if is_here:
        visit.page.locator("aside header").get_by_role("button", name="More").click()
        visit.page.get_by_role("menuitemcheckbox", name="Keep new chats in this browser only").click()
    ask(visit.page, "Hi")
    expect(answers(visit.page)).to_have_text("Hello there.")
    visit.page.get_by_role("button", name="Copy").last.click()
    expect(visit.page.locator(".toast.error")).to_contain_text("copy it yourself")
    assert visit.complaints == []


def test_an_answer_appears_as_it_is_generated(open_page: OpenPage) -> None:
    go_on = threading.Event()
    visit = open_page(in_steps(go_on, "Once ", "upon ", "a time."))
    ask(visit.page, "Tell me a story")
    expect(said(visit.page)).to_have_text("Tell me a story")
    assert said(visit.page).text_content() == "Tell me a story"  # `to_have_text` ignores spaces
    expect(answers(visit.page)).to_have_text("Once")
    expect(visit.page.get_by_role("button", name="Stop")).to_be_enabled()
    go_on.set()
    expect(answers(visit.page)).to_have_text("Once upon a time.")
    expect(note(visit.page)).to_contain_text("3 tokens")
    expect(visit.page.get_by_role("button", name="Send")).to_be_visible()
    expect(visit.page.locator("aside li")).to_contain_text("Tell me a story")
    assert visit.complaints == []
    assert all(url.startswith(f"{visit.api.url}/") for url in visit.requests)


def test_the_model_sees_the_earlier_messages_and_the_settings(open_page: OpenPage) -> None:
    seen = []

    def script(play: Play) -> None:
        seen.append(play.job.params)
        play.end(f"answer {len(seen)}")

    page = open_page(script).page
    page.get_by_role("button", name="Settings of this chat").click()
    page.get_by_label("System prompt").fill("Be brief.")
    write(page.get_by_label("Temperature").last, "0.25")
    write(page.get_by_label("Maximum tokens"), "7")
    page.get_by_label("Maximum tokens").press("Tab")
    page.get_by_role("button", name="Close").click()
    ask(page, "My name is Bob.")
    expect(answers(page)).to_have_text("answer 1")
    ask(page, "What is my name?")
    expect(answers(page).last).to_have_text("answer 2")
    assert [message["content"] for message in seen[1]["messages"]] == [
        "Be brief.",
        "My name is Bob.",
        "answer 1",
        "What is my name?",
    ]
    assert (seen[1]["sampling"]["temperature"], seen[1]["sampling"]["max_new_tokens"]) == (0.25, 7)


@pytest.mark.parametrize("begin", ["<think>\n", ""], ids=["written", "by the template"])
def test_what_a_model_thinks_is_folded_and_not_asked_again(open_page: OpenPage, begin: str) -> None:
    seen, go_on = [], threading.Event()

    def script(play: Play) -> None:
        seen.append(play.job.params["messages"])
        play.status("Generating response...")
        play.say(begin, "The user is <i>polite</i>.")
        assert go_on.wait(TIMEOUT_S)
        play.say("\n</think>\n\n", "**Hello")
        play.end(" there.**")

    visit = open_page(script)
    ask(visit.page, "Hi")
    thoughts = visit.page.locator(".turn.assistant details")
    if begin:
        expect(thoughts).to_have_text("Thinking… The user is <i>polite</i>.")
    go_on.set()
    expect(answers(visit.page)).to_have_text("Hello there.")
    expect(thoughts.get_by_text("Thoughts")).to_be_visible()
    expect(thoughts.get_by_text("The user is <i>polite</i>.")).to_be_hidden()
    thoughts.get_by_text("Thoughts").click()
    expect(thoughts.get_by_text("The user is <i>polite</i>.")).to_be_visible()
    ask(visit.page, "And again?")
    expect(answers(visit.page)).to_have_count(2)
    assert [message["content"] for message in seen[1]] == ["Hi", "**Hello there.**", "And again?"]
    assert violations_on(visit.page) == []
    assert visit.complaints == []


@pytest.mark.parametrize(
    "said",
    ["<", "Write it so:\n\n```\n<think>\nHm.\n</think>\n```"],
    ids=["the beginning of a tag", "code with both tags"],
)
def test_an_answer_that_only_looks_like_thoughts_is_shown_and_asked_again(open_page: OpenPage, said: str) -> None:
    seen = []

    def script(play: Play) -> None:
        seen.append(play.job.params["messages"])
        play.end(said)

    page = open_page(script).page
    ask(page, "Hi")
    expect(answers(page)).to_contain_text("<")
    expect(page.locator(".turn.assistant details")).to_have_count(0)
    ask(page, "And again?")
    expect(answers(page)).to_have_count(2)
    assert [message["content"] for message in seen[1]] == ["Hi", said, "And again?"]


def test_a_search_is_repeated_only_after_a_change(open_page: OpenPage) -> None:
    visit = open_page(answer("Hello."))
    ask(visit.page, "Where is the lighthouse?")
    expect(answers(visit.page)).to_have_text("Hello.")
    for view, search in (("chat", "Search"), ("jobs", "Search by id")):
        visit.page.goto(f"{visit.api.url}/#/{view}")
        with visit.page.expect_request(lambda request: is_search(request.url), timeout=PATIENCE_MS):
            visit.page.get_by_label(search).fill("lighthouse")
        visit.requests.clear()
        for _ in range(2):
            with visit.page.expect_request(lambda request: is_list(request.url), timeout=PATIENCE_MS):
                pass
        assert not any(map(is_search, visit.requests)), view
    requests.post(f"{visit.api.url}/slm/generate", json={"prompt": "the lighthouse"}, timeout=60).raise_for_status()
    expect(visit.page.get_by_role("row")).to_have_count(3)


def test_an_old_conversation_that_was_found_and_deleted_is_found_no_more(open_page: OpenPage) -> None:
    visit = open_page(answer("Hello."))
    conversations = f"{visit.api.url}/slm/conversations"
    for title in ("the lighthouse", *map(str, range(60))):  # more than the page lists at once
        requests.post(conversations, json={"title": title}, timeout=60).raise_for_status()
    visit.page.get_by_label("Search").fill("lighthouse")
    expect(visit.page.locator("aside li")).to_have_count(1)
    visit.page.get_by_text("the lighthouse").click()
    visit.page.get_by_role("button", name="Actions for the conversation").click()
    visit.page.get_by_role("menuitem", name="Delete").click()
    visit.page.get_by_role("button", name="Delete", exact=True).click()
    expect(visit.page.get_by_text("the lighthouse")).to_have_count(0)


def is_list(url: str) -> bool:
    return urlsplit(url).path in ("/slm/jobs", "/slm/conversations") and not is_search(url)


def is_search(url: str) -> bool:
    return "q=lighthouse" in url


@pytest.mark.parametrize(
    ("form", "field", "text", "expected"),
    [
        ("json", None, "", Grammar(GrammarKind.JSON_OBJECT)),
        ("schema", "JSON schema", '{"type": "integer"}', Grammar(GrammarKind.JSON_SCHEMA, '{"type": "integer"}')),
        ("regex", "Regular expression", "(yes|no)", Grammar(GrammarKind.REGEX, "(yes|no)")),
    ],
    ids=["json", "schema", "regex"],
)
def test_the_model_is_held_to_the_form_of_the_answers(
    open_page: OpenPage, form: str, field: str | None, text: str, expected: Grammar
) -> None:
    seen = []

    def script(play: Play) -> None:
        seen.append(play.params.sampling.grammar)
        play.end("yes")

    page = open_page(script).page
    page.get_by_role("button", name="Settings of this chat").click()
    page.get_by_label("Form of the answers").select_option(form)
    if field is not None:
        page.get_by_role("textbox", name=field).fill(text)
    page.get_by_role("button", name="Close").click()
    ask(page, "Is water wet?")
    expect(answers(page)).to_have_text("yes")
    assert seen == [expected]


def test_a_reload_in_the_middle_of_an_answer_and_a_second_tab_show_all_of_it(open_page: OpenPage) -> None:
    go_on = threading.Event()
    visit = open_page(in_steps(go_on, "before ", "after ", "all"))
    ask(visit.page, "Hi")
    expect(answers(visit.page)).to_have_text("before")
    visit.page.reload()
    expect(answers(visit.page)).to_have_text("before")
    second = visit.page.context.new_page()
    second.goto(visit.page.url)
    expect(answers(second)).to_have_text("before")
    go_on.set()
    for page in (visit.page, second):
        expect(answers(page)).to_have_text("before after all")
        expect(page.get_by_role("button", name="Send")).to_be_visible()
    ask(second, "And now?")
    expect(said(visit.page).last).to_have_text("And now?")
    expect(answers(visit.page).last).to_have_text("before after all")


def test_a_reload_in_the_middle_of_a_long_answer_counts_its_tokens(open_page: OpenPage) -> None:
    go_on = threading.Event()

    def script(play: Play) -> None:
        play.say(*(f"w{number} " for number in range(100)))
        assert go_on.wait(TIMEOUT_S)
        play.end("end")

    page = open_page(script).page
    ask(page, "Hi")
    expect(answers(page)).to_contain_text("w99")
    page.reload()
    expect(answers(page)).to_contain_text("w99")
    expect(page.locator(".turn.assistant .live")).to_contain_text("100 tokens")
    go_on.set()
    expect(note(page)).to_contain_text("101 tokens")


def test_the_page_waits_for_a_restart_of_the_server(
    browser: Browser, redis_server: RedisServer, real_redis: Redis, tmp_path: Path
) -> None:
    go_on = threading.Event()
    port, settings = free_port(), {"redis_url": redis_server.url, "drain_s": 0}
    with ScriptedWorker(real_redis, in_steps(go_on, "before ", "after ", "all")), browser.new_page() as page:
        with running_api(tmp_path, port=port, **settings) as api:
            page.goto(api.url)
            ask(page, "Hi")
            expect(answers(page)).to_have_text("before")
            assert api.stop() == 0
        expect(note(page)).to_have_text("Reconnecting…")
        expect(answers(page)).to_have_text("before")
        with running_api(tmp_path, port=port, **settings):
            go_on.set()
            expect(answers(page)).to_have_text("before after all")
            expect(note(page)).to_contain_text("3 tokens")


def test_an_answer_can_be_stopped_with_escape_and_continued(open_page: OpenPage) -> None:
    def script(play: Play) -> None:
        if "Hi" in play.prompt and "half" in play.prompt:
            play.end(" and the rest")
            return
        play.say("one half")
        play.run_until_cancelled()

    page = open_page(script).page
    ask(page, "Hi")
    expect(answers(page)).to_have_text("one half")
    page.keyboard.press("Escape")
    expect(note(page)).to_contain_text("Stopped")
    page.get_by_role("button", name="Continue").click()
    expect(answers(page)).to_have_text("one half and the rest")


def test_another_answer_and_an_edited_question_are_branches(open_page: OpenPage) -> None:
    count = iter(range(1, 9))
    page = open_page(lambda play: play.end(f"answer {next(count)}")).page
    ask(page, "first")
    expect(answers(page)).to_have_text("answer 1")
    page.get_by_role("button", name="Another answer").click()
    expect(answers(page)).to_have_text("answer 2")
    expect(page.locator(".branches")).to_contain_text("2 of 2")
    page.get_by_role("button", name="Previous version").click()
    expect(answers(page)).to_have_text("answer 1")
    page.locator(".turn.user").hover()
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Your message, edited").fill("second")
    page.keyboard.press("Enter")
    expect(answers(page)).to_have_text("answer 3")
    expect(said(page)).to_have_text("second")
    page.reload()
    expect(answers(page)).to_have_text("answer 3")


def test_markdown_is_shown_and_nothing_of_it_runs(open_page: OpenPage) -> None:
    visit = open_page(answer(RICH, EVIL))
    ask(visit.page, EVIL)
    shown = answers(visit.page)
    expect(shown.locator("strong")).to_have_text("short")
    expect(shown.locator("li")).to_have_count(2)
    expect(shown.locator("pre .hljs-keyword").first).to_have_text("def")
    expect(shown).to_contain_text("<b>bold</b>")
    expect(said(visit.page)).to_have_text(EVIL)
    expect(visit.page.locator("aside li")).to_contain_text("<img")
    assert visit.page.evaluate("window.broken") is None
    assert visit.page.locator("main :is(img, script, b, [style*='align'], [onerror])").count() == 0
    assert visit.page.locator("main a[href^='javascript']").count() == 0
    assert visit.complaints == []


def test_foreign_scripts_are_refused(open_page: OpenPage) -> None:
    visit = open_page(answer("x"))
    visit.page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.broken = 1";
        document.body.append(script);
    }""")
    assert visit.page.evaluate("window.broken") is None
    assert "default-src 'self'" in visit.complaints[0].replace("“", "").replace("”", "")


def test_requests_carry_the_key_that_was_entered(open_page: OpenPage, real_redis: Redis) -> None:
    secret = ApiKeyStore(real_redis).create("ann", Role.USER)
    time.sleep(CACHE_S)  # the API may know an older state of the keys
    visit = open_page(answer("a ", "b"))
    field = visit.page.get_by_label("API key", exact=True)
    field.fill("slm_wrong")
    visit.page.get_by_role("button", name="Use key").click()
    expect(field).to_be_visible()  # only the form shows that it is invalid
    field.fill(secret)
    visit.page.get_by_role("button", name="Use key").click()
    expect(field).to_be_hidden()
    ask(visit.page, "Hi")
    expect(answers(visit.page)).to_have_text("a b")
    assert secret not in visit.page.evaluate("JSON.stringify(localStorage)")
    assert not any(secret in url for url in visit.requests)
    real_redis.flushall()
    time.sleep(CACHE_S)


def test_shift_enter_makes_a_new_line_and_a_blank_message_is_not_sent(open_page: OpenPage) -> None:
    page = open_page(answer("x")).page
    ask(page, "   ")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    box = page.get_by_label("Message", exact=True)
    box.fill("one")
    box.press("Shift+Enter")
    box.type("two")
    box.press("Enter")
    expect(said(page)).to_have_text("one\ntwo", use_inner_text=True)
    expect(box).to_have_value("")


@pytest.mark.parametrize("text", ["", "half an "], ids=["at-once", "midway"])
def test_a_failure_says_why_and_keeps_the_text(open_page: OpenPage, text: str) -> None:
    def script(play: Play) -> None:
        if text:
            play.say(text)
        play.fail(ModelUnavailable("The model is gone.") if text else PromptTooLong("Too long.", param="prompt"))

    page = open_page(script).page
    ask(page, "Hi")
    expect(page.get_by_role("alert")).to_have_text("The model is gone." if text else "Too long.")
    if text:
        expect(answers(page)).to_have_text("half an")
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_a_waiting_user_sees_the_queue_position(open_page: OpenPage) -> None:
    def script(play: Play) -> None:
        if play.prompt == "busy":
            play.run_until_cancelled()
        else:
            play.end("your turn")

    visit = open_page(script)
    params = {"prompt": "busy", "async": True}
    busy = [
        visit.page.request.post(f"{visit.api.url}/slm/generate", data=params).json()["job_id"]
        for _ in range(visit.worker.report.slots + 1)  # and one wake-up message ahead
    ]
    ask(visit.page, "Hi")
    expect(note(visit.page)).to_contain_text("Place 1 in the queue")
    for job_id in busy:
        visit.page.request.delete(f"{visit.api.url}/slm/jobs/{job_id}")
    expect(answers(visit.page)).to_have_text("your turn")


def test_a_server_without_a_worker_says_so(open_page: OpenPage) -> None:
    visit = open_page(answer("x"))
    visit.worker.leave()
    visit.page.reload()
    expect(visit.page.get_by_role("link", name="System")).to_contain_text("No worker is running")
    ask(visit.page, "Hi")
    expect(visit.page.get_by_role("alert")).to_contain_text("No worker is alive")
    expect(visit.page.get_by_role("button", name="Try again")).to_be_visible()


def test_an_answer_can_be_rated_and_corrected(open_page: OpenPage) -> None:
    visit = open_page(answer("poor"))
    ask(visit.page, "Hi")
    visit.page.get_by_role("button", name="Good answer").click()
    expect(visit.page.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")
    visit.page.get_by_role("button", name="Correct this answer").click()
    visit.page.get_by_role("textbox", name="Correct this answer").fill("better")
    visit.page.get_by_role("button", name="Save").click()
    expect(answers(visit.page)).to_have_text("better")
    jobs = visit.page.request.get(f"{visit.api.url}/slm/jobs").json()["jobs"]
    (job_id,) = (one["job_id"] for one in jobs if one["kind"] in ("generate", "stream"))
    kept = visit.page.request.get(f"{visit.api.url}/slm/jobs/{job_id}/feedback").json()
    assert (kept["rating"], kept["correction"]) == ("down", "better")


@in_chromium("Playwright does not see downloads of Firefox")
def test_a_conversation_can_be_renamed_exported_imported_and_deleted(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(answer("an answer")).page
    ask(page, "a question")
    expect(answers(page)).to_have_text("an answer")
    actions = page.get_by_role("button", name="Actions for the conversation")
    actions.click()
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_label("Name", exact=True).fill("renamed")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("aside li")).to_contain_text("renamed")
    actions.click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="Export as JSON").click()
    download.value.save_as(tmp_path / "one.json")
    actions.click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator("aside li")).to_have_text("No conversations yet.")
    page.get_by_label("Import…").set_input_files(tmp_path / "one.json")
    expect(answers(page)).to_have_text("an answer")


def test_models_are_compared_with_one_seed(open_page: OpenPage) -> None:
    seeds = []

    def script(play: Play) -> None:
        seeds.append(play.params.sampling.seed)
        play.end("an answer")

    page = open_page(script).page
    page.get_by_role("link", name="Compare models").click()
    page.get_by_label("Question").fill("Hi")
    write(page.get_by_label("Seed"), "5")
    page.get_by_role("button", name="Ask all").click()
    expect(page.locator(".columns .markdown")).to_have_text(["an answer", "an answer"])
    assert seeds == [5, 5]


@pytest.mark.parametrize(
    ("opens", "shows"),
    [
        ("Settings of this chat", "System prompt"),
        ("Compare models", "Question"),
        ("Commands", "Go to Jobs"),
        ("More", "Import…"),
    ],
    ids=["settings", "comparison", "palette", "menu"],
)
def test_a_part_of_the_page_is_loaded_when_the_server_is_back(open_page: OpenPage, opens: str, shows: str) -> None:
    page = open_page(answer("x")).page
    refused: list[str] = []
    is_back = threading.Event()

    def answer_later(route: Route) -> None:
        if is_back.is_set():
            route.continue_()
        else:
            refused.append(route.request.url)
            route.abort()

    page.route("**/static/app/**", answer_later)
    page.locator(f":is(button, a)[aria-label='{opens}'], nav button:has-text('{opens}')").first.click()
    page.wait_for_timeout(500)
    is_back.set()
    item = page.get_by_role("menuitem", name=shows).or_(page.get_by_role("option", name=shows))
    expect(page.get_by_label(shows, exact=True).or_(item).first).to_be_visible()
    assert refused
    styles = page.locator("link[rel=stylesheet]")
    assert styles.evaluate_all("all => all.filter(one => one.sheet === null).map(one => one.href)") == []


def test_a_part_that_was_loaded_opens_again_without_the_server(open_page: OpenPage) -> None:
    page = open_page(answer("x")).page
    prompt = page.get_by_label("System prompt")
    page.get_by_role("button", name="Settings of this chat").click()
    expect(prompt).to_be_visible()
    page.get_by_role("button", name="Close").click()
    expect(prompt).to_have_count(0)
    page.route("**/static/app/**", lambda route: route.abort())
    page.get_by_role("button", name="Settings of this chat").click()
    expect(prompt).to_be_visible()


def test_escape_stops_a_comparison(open_page: OpenPage) -> None:
    def script(play: Play) -> None:
        play.say("one half")
        play.run_until_cancelled()

    page = open_page(script).page
    page.get_by_role("link", name="Compare models").click()
    page.get_by_label("Question").fill("Hi")
    page.get_by_role("button", name="Ask all").click()
    expect(page.locator(".columns .markdown")).to_have_text(["one half", "one half"])
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Ask all")).to_be_visible()


@pytest.mark.parametrize(("name", "size"), [("wide", WIDE), ("phone", PHONE)])
@pytest.mark.parametrize("colors", ["light", "dark"])
def test_everything_fits_and_everybody_can_use_it(
    open_page: OpenPage, picture: Picture, name: str, size: tuple[int, int], colors: str
) -> None:
    page = open_page(answer(RICH, f"\n{'a' * 200}"), size, colors=colors).page
    expect(page.get_by_role("heading", name="Three things to do")).to_be_visible()
    expect(page.get_by_role("tab", name="curl")).to_be_visible()
    picture(page, f"chat-first-{name}-{colors}")
    assert violations_on(page) == []
    ask(page, "Write a greeting in Python")
    expect(note(page)).to_contain_text("tokens")
    picture(page, f"chat-{name}-{colors}")
    assert violations_on(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_role("button", name="Settings of this chat").click()
    expect(page.get_by_label("System prompt")).to_be_visible()
    picture(page, f"chat-settings-{name}-{colors}")
    assert violations_on(page) == []
