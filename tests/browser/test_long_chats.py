"""What is long or fast in the chat: 2,000 messages, and an answer of 10 tokens a millisecond."""

from __future__ import annotations

import itertools
import json

import pytest
from playwright.sync_api import FilePayload, Page, expect

from tests.browser.chat import answers, ask
from tests.browser.conftest import OpenPage
from tests.scripted_worker import answer

MESSAGES = 2000
MANY_ELEMENTS = 2500
TURNS_AT_ONCE = 40
PIECES = 5000
PIECES_PER_MS = 10


def long_conversation() -> FilePayload:
    """An exported conversation with that many messages."""
    messages = [
        {"id": f"msg_{index:08}-0000-4000-8000-000000000000", "role": role, "content": f"{role} {index} **bold**"}
        for index, role in enumerate(["user", "assistant"] * (MESSAGES // 2))
    ]
    for before, one in itertools.pairwise(messages):
        one["parent_id"] = before["id"]
    exported = {"version": 1, "title": "long", "messages": messages, "leaf_id": messages[-1]["id"]}
    return FilePayload(name="long.json", mimeType="application/json", buffer=json.dumps(exported).encode())


@pytest.fixture
def long_chat(open_page: OpenPage) -> Page:
    """A page with the conversation."""
    page = open_page(answer("a new ", "answer")).page
    page.get_by_label("Import…").set_input_files(long_conversation())
    expect(answers(page).last).to_have_text(f"assistant {MESSAGES - 1} bold")
    return page


def test_only_the_end_of_a_long_conversation_is_drawn(long_chat: Page) -> None:
    expect(long_chat.locator(".turn")).to_have_count(TURNS_AT_ONCE)
    assert long_chat.locator("*").count() < MANY_ELEMENTS
    long_chat.get_by_role("button", name="earlier messages").click()
    expect(long_chat.locator(".turn")).to_have_count(2 * TURNS_AT_ONCE)
    expect(answers(long_chat).first).to_be_attached()
    ask(long_chat, "And now?")
    expect(answers(long_chat).last).to_have_text("a new answer")


def test_a_change_elsewhere_leaves_the_reader_at_the_earlier_messages(long_chat: Page) -> None:
    long_chat.get_by_role("button", name="earlier messages").click()
    expect(long_chat.locator(".turn")).to_have_count(2 * TURNS_AT_ONCE)
    other_tab = long_chat.context.new_page()
    other_tab.goto(long_chat.url)
    expect(answers(other_tab).last).to_have_text(f"assistant {MESSAGES - 1} bold")
    ask(other_tab, "And now?")
    expect(answers(long_chat).last).to_have_text("a new answer")
    expect(long_chat.locator(".turn")).to_have_count(2 * TURNS_AT_ONCE)


# Replaces the stream of the job by one that is faster than the server, without its end, and counts what is drawn.
BURST = """() => {
    const [pieces, perMs] = [%d, %d];
    const real = window.fetch;
    const counts = (window.counts = { frames: 0, renders: 0 });
    window.fetch = async (input, init) => String(input).endsWith("/stream") ? new Response(burst()) : real(input, init);

    function burst() {
        const [bytes, start] = [new TextEncoder(), performance.now()];
        let sent = 0;
        const due = () => Math.min(pieces, Math.ceil((performance.now() - start) * perMs));
        const data = (index) => JSON.stringify({ text: `w${index} `, full_text: "", is_complete: false });
        const frame = (index) => `id: ${index}\ndata: ${data(index)}\n\n`;
        count();
        return new ReadableStream({
            async pull(stream) {
                await new Promise((resolve) => setTimeout(resolve, sent < pieces ? 1 : 1e9));
                while (sent < due()) stream.enqueue(bytes.encode(frame(sent++)));
            },
        });
    }

    function count() {
        const draw = () => { counts.frames++; requestAnimationFrame(draw); };
        draw();
        new MutationObserver((changes) => {
            if (changes.some(({ target }) => target.parentElement?.closest(".markdown, .turn p"))) counts.renders++;
        }).observe(document.body, { subtree: true, childList: true, characterData: true });
    }
}"""


def test_a_burst_of_tokens_is_drawn_once_a_frame(open_page: OpenPage) -> None:
    page = open_page(answer("the end")).page
    page.evaluate(BURST % (PIECES, PIECES_PER_MS))
    ask(page, "Hi")
    expect(answers(page)).to_have_text(" ".join(f"w{index}" for index in range(PIECES)))
    counts = page.evaluate("window.counts")
    assert 0 < counts["renders"] <= counts["frames"] + 1 < PIECES, counts
