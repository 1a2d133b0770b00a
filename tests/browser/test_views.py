"""The views beside the chat: jobs, models, fine-tuning, system, each with its main flow."""

from __future__ import annotations

import re
import threading

import pytest
import requests
from playwright.sync_api import FilePayload, expect
from redis import Redis

from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from common.adapters.uploads import Uploads
from common.settings import Settings
from tests.browser.conftest import PHONE, OpenPage, Visit
from tests.browser.violations import violations_on
from tests.scripted_worker import SAMPLES, TRAINED, Play, Script, answer

VIEWS = ("jobs", "models", "training", "system")
CARD = {
    "base": "gpt2",
    "method": "supervised",
    "data": {"sha256": "c0ffee", "examples_trained": 18, "examples_held_out": 2, "examples_left_out": 0},
    "recipe": {"learning_rate": 0.0005, "max_steps": None},
    "seed": 0,
    "steps": 2,
    "best_step": 2,
    "held_out_loss": {"before": 3.0, "after": 1.5},
    "gate": {"passed": False, "rows": [{**TRAINED["gate"]["rows"][0], "passed": False}]},
    "samples": [SAMPLES[2]],
}


def show(visit: Visit, address: str) -> None:
    visit.page.goto("about:blank")  # so that the page is loaded at this address
    visit.page.goto(f"{visit.api.url}/#/{address}")


def begun(text: str, is_seen: threading.Event) -> Script:
    """Return a script that begins an answer, and goes on until somebody cancels it."""

    def play(play: Play) -> None:
        play.status("Generating response...")
        play.say(text)
        is_seen.set()
        play.run_until_cancelled()

    return play


def test_a_job_is_found_read_and_cancelled(open_page: OpenPage) -> None:
    visit = open_page(begun("Once upon", is_seen := threading.Event()))
    submitted = requests.post(f"{visit.api.url}/slm/generate", json={"prompt": "Tell me", "async": True}, timeout=60)
    job_id = submitted.json()["job_id"]
    assert is_seen.wait(60)
    show(visit, "jobs")
    row = visit.page.get_by_role("row").filter(has_text=job_id[:8])
    expect(row).to_contain_text("Running")
    visit.page.get_by_label("State").select_option("succeeded")
    expect(row).to_have_count(0)
    visit.page.get_by_label("State").select_option("")
    visit.page.get_by_label("Search by id").fill(job_id)
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("p.text")).to_contain_text("Once upon")
    expect(visit.page.get_by_text("Generating response...")).to_be_visible()
    visit.page.get_by_role("button", name="Cancel", exact=True).click()
    expect(visit.page.get_by_role("heading", level=1)).to_contain_text("Cancelled")
    expect(visit.page.get_by_text("Tell me")).to_be_visible()  # the prompt is known after the end
    assert visit.complaints == []


def test_an_adapter_is_uploaded_and_an_alias_rolled_back(open_page: OpenPage) -> None:
    visit = open_page(answer("x"))
    visit.worker.uploads = Uploads(Settings().data_dir / "uploads")  # where the API keeps them
    show(visit, "models")
    upload(visit, b"broken")
    expect(visit.page.get_by_role("alert")).to_contain_text("The archive cannot be read.")
    for version in ("support@1", "support@2"):
        upload(visit, version.encode())
        expect(visit.page.get_by_text(f"Published as {version}")).to_be_visible()
        set_alias(visit, "production", version)
    listed = visit.page.get_by_role("listitem").filter(has_text="production")
    expect(listed).to_contain_text("production → support@2")
    visit.page.get_by_role("link", name="support@2").click()
    expect(visit.page.get_by_label("Model", exact=True).locator("option:checked")).to_have_text("support@2")
    show(visit, "models")
    visit.page.get_by_role("button", name="Roll back production").click()
    visit.page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(listed).to_contain_text("production → support@1")
    visit.page.get_by_role("button", name="Delete support@2").click()
    visit.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(visit.page.get_by_role("row").filter(has_text="support@2")).to_have_count(0)


def test_cards_say_what_models_are(open_page: OpenPage, real_redis: Redis) -> None:
    visit = open_page(answer("x"))
    known = {"license": "apache-2.0", "parameters": 124_439_808, "model_bytes": 497_759_232, "context": 1024}
    visit.worker.report = visit.worker.report.but(**known)
    visit.worker.beat()
    facts = VersionFacts("5" * 64, "gpt2", "b5a4d58c", 8, ("c_attn",), 1_860_513, summary=CARD)
    AdapterRegistry(real_redis).register("support", facts)
    show(visit, "models")
    base = visit.page.get_by_role("listitem").filter(has_text="In memory of: w1")
    for fact in ("apache-2.0", "124M", "498 MB", "1,024 tokens"):
        expect(base).to_contain_text(fact)
    visit.page.get_by_role("button", name="Card: support@1").click()
    card = visit.page.get_by_role("dialog")
    for fact in ("gpt2", "c_attn", "1.9 MB", "18", "3 → 1.5", "c0ffee"):
        expect(card.locator("dd").get_by_text(fact, exact=True).first).to_be_visible()
    expect(card.get_by_role("row").filter(has_text="Loss on held-out examples")).to_contain_text("Not passed")
    expect(card.get_by_role("article", name="What is rule 1?")).to_contain_text("After step 2, the best one")
    assert violations_on(visit.page) == []
    card.get_by_text("Parameters of the training").click()
    expect(card.get_by_text("learning_rate", exact=True)).to_be_visible()
    visit.page.keyboard.press("Escape")
    expect(card).to_have_count(0)
    assert visit.complaints == []


def upload(visit: Visit, content: bytes) -> None:
    file = FilePayload(name="support.zip", mimeType="application/zip", buffer=content)
    visit.page.get_by_label("Drop an archive here").set_input_files(file)
    visit.page.get_by_role("button", name="Upload", exact=True).click()


def set_alias(visit: Visit, alias: str, model: str) -> None:
    visit.page.get_by_role("button", name=f"Set alias: {model}").click()
    dialog = visit.page.get_by_role("dialog")
    dialog.get_by_label("Alias").fill(alias)
    dialog.get_by_role("button", name="Set alias").click()
    expect(dialog).to_have_count(0)


def test_a_dataset_is_checked_and_trained_on(open_page: OpenPage) -> None:
    visit = open_page(answer("x"))
    show(visit, "training/new")
    visit.page.get_by_label("Or paste examples").fill('{"instruction": "Hi"}\n{"instruction": "a", "response": "b"}')
    visit.page.get_by_role("button", name="Check", exact=True).click()
    expect(visit.page.get_by_role("region", name="What is wrong")).to_contain_text("response")
    visit.page.get_by_role("button", name="Use the example").click()
    visit.page.get_by_role("button", name="Check", exact=True).click()
    expect(visit.page.get_by_text("The dataset can be used.")).to_be_visible()
    visit.page.get_by_label("Name of the adapter").fill("support")
    visit.page.get_by_role("button", name="Start training").click()
    expect(visit.page.get_by_role("heading", level=1)).to_contain_text("support")
    expect(visit.page.get_by_text("Published as support@1")).to_be_visible()
    expect(visit.page.get_by_role("img", name="Loss. Training: 1, Held out: 1.5")).to_be_visible()
    expect(visit.page.get_by_role("region", name="The gate")).to_contain_text("the held-out loss fell from 3.0 to 1.5")
    expect(visit.page.get_by_role("region", name="The gate")).to_contain_text("Loss on held-out examples")
    learned = visit.page.get_by_role("article", name="What is rule 1?")
    expect(learned).to_have_text(re.compile("From the examples.*Before training.*I do not know.*step 2, the best one"))
    expect(visit.page.get_by_role("article", name="What is rule 2?")).to_contain_text("never sees this answer")
    visit.page.get_by_role("link", name="All runs").click()
    expect(visit.page.get_by_role("link", name="support")).to_be_visible()
    assert visit.complaints == []


def test_the_system_is_shown_with_its_last_minutes(open_page: OpenPage) -> None:
    visit = open_page(answer("x"))
    show(visit, "system")
    expect(visit.page.get_by_role("region", name="Workers")).to_contain_text("w1")
    expect(visit.page.get_by_role("img", name="Queue. Running: 0.0, Waiting: 0.0")).to_be_visible()
    expect(visit.page.get_by_role("img", name="Tokens per second")).to_be_visible()
    expect(visit.page.get_by_role("heading", name="Your usage")).to_be_visible()
    visit.page.get_by_label("Colours").select_option("dark")
    expect(visit.page.locator("html")).to_have_attribute("data-theme", "dark")
    assert visit.complaints == []


@pytest.mark.parametrize("colors", ["light", "dark"])
def test_the_views_fit_on_a_phone(open_page: OpenPage, colors: str) -> None:
    visit = open_page(answer("x"), PHONE, colors=colors)
    for view in VIEWS:
        show(visit, view)
        expect(visit.page.get_by_role("heading", level=1)).to_be_visible()
        assert visit.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), view
