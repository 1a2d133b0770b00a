"""Conversations: trees of messages, within their owner's quota; on the emulated and on the real Redis."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from common.conversations.conversation import AnswerPlace, Message, NewMessage, Quota, Thread, Written, answer_id
from common.conversations.search import search
from common.conversations.store import About, ConversationStore
from common.errors import Conflict, InternalError, NotFound, QuotaExceeded
from common.fleet import Fleet, WorkerReport, WorkerState
from common.jobs import events
from common.jobs.job import JobKind, JobState
from common.jobs.store import MAX_CRASHES, JobOptions, JobStore
from common.redis import keys

QUOTA = Quota(conversations=3, messages=10, bytes=10_000)
LEASE_S = 600.0
PARTS = ("tree", "messages", "answers")


@pytest.fixture
def store(redis: Redis) -> ConversationStore:
    return ConversationStore(redis, quota=QUOTA, ttl_s=0)


@pytest.fixture
def jobs(redis: Redis) -> JobStore:
    """The jobs of a server with one worker."""
    Fleet(redis).beat(WorkerReport(id="w1", host="h", pid=1, state=WorkerState.READY, slots=8), ttl_s=600)
    return JobStore(redis, lambda _: None, job_ttl_s=600)


def new(text: str = "Hi", parent: str | None = None, role: Any = "user", **more: Any) -> NewMessage:
    return NewMessage(answer_id(str(uuid.uuid4())), Written(role, text), parent, **more)


def begun(store: ConversationStore, *texts: str, owner: str = "me") -> tuple[str, list[str]]:
    """A conversation with messages one after another; its id and theirs."""
    messages = [new(text) for text in texts]
    return store.create(owner, About(title="A"), messages), [one.id for one in messages]


def shown(thread: Thread) -> list[str]:
    return [one.text for one in thread.shown()]


def size(redis: Redis, conversation: str) -> int:
    """The bytes of everything that counts in a conversation."""
    record = redis.hgetall(keys.conversation(conversation))
    counted = [record.get(name, "") for name in ("title", "system_prompt", "model", "settings", "metadata")]  # type: ignore[union-attr]
    texts = [text for part in PARTS[1:] for text in redis.hvals(keys.conversation_part(conversation, part))]  # type: ignore[union-attr]
    count = int(redis.hlen(keys.conversation_part(conversation, "tree")))  # type: ignore[arg-type]
    return sum(len(text.encode()) for text in (*counted, *texts)) + 200 * count


def submit(jobs: JobStore, store: ConversationStore, conversation: str, parent: str, owner: str = "me") -> str:
    job_id = str(uuid.uuid4())
    place = AnswerPlace(conversation, parent, store.quota.messages, store.quota.bytes)
    options = JobOptions(place=place)
    jobs.submit(job_id, JobKind.GENERATE, {"prompt": "Hi"}, owner=owner, max_queue=9, options=options)
    return job_id


def begin(jobs: JobStore, job_id: str, *pieces: str) -> int:
    """Claim a job and emit its first tokens; returns the number of the next event."""
    claim = jobs.claim(job_id, "w1", lease_s=LEASE_S)
    assert claim is not None
    tokens = [events.token(claim.next_seq + i, text, [i], is_last=False) for i, text in enumerate(pieces)]
    if tokens:
        jobs.emit([(job_id, claim.attempt, tokens)])
    return claim.next_seq + len(pieces)


RESULT = {"response": "Hello.", "finish_reason": "stop", "prompt_tokens": 3, "completion_tokens": 2}


def succeed(jobs: JobStore, job_id: str, *pieces: str) -> None:
    seq = begin(jobs, job_id, *pieces)
    jobs.succeed(job_id, 1, RESULT, [events.finished(seq, JobState.SUCCEEDED, "stop")])


def message_of(store: ConversationStore, conversation: str, job_id: str) -> Message:
    found = store.read(conversation).find(answer_id(job_id))
    assert found is not None
    return found


# -- conversations -----------------------------------------------------------------------------------------------------


def test_a_conversation_is_found_as_it_was_created(store: ConversationStore) -> None:
    about = About("Räder", "Be brief.", "support@3", {"temperature": 0.5, "stop": []}, {"a": "b"})
    found = store.find(store.create("me", about))
    given = (found.title, found.system_prompt, found.model, found.settings, found.metadata)
    assert given == ("Räder", "Be brief.", "support@3", {"temperature": 0.5, "stop": []}, {"a": "b"})
    assert (found.owner, found.leaf_id, found.num_messages) == ("me", "", 0)
    assert found.created_ms == found.updated_ms


def test_the_latest_change_comes_first_and_pages_follow_each_other(store: ConversationStore) -> None:
    first, second, third = (begun(store)[0] for _ in range(3) if time.sleep(0.002) is None)
    time.sleep(0.002)
    store.change(first, About(title="B"))
    page = store.newest("me", after=None, limit=2)
    assert ([one.id for one in page.items], page.has_more) == ([first, third], True)
    page = store.newest("me", after=third, limit=2)
    assert ([one.id for one in page.items], page.has_more) == ([second], False)
    assert store.newest("ann", after=None, limit=2).items == []


def test_only_the_given_fields_change(store: ConversationStore) -> None:
    conversation = store.create("me", About("A", "Be brief.", "gpt2"))
    store.change(conversation, About(title="B", model=""))
    found = store.find(conversation)
    assert (found.title, found.system_prompt, found.model) == ("B", "Be brief.", "")


def test_a_deleted_conversation_leaves_nothing(store: ConversationStore, redis: Redis) -> None:
    conversation, _ = begun(store, "Hi", "Hello")
    store.delete(conversation)
    store.delete(conversation)  # sent twice
    assert list(redis.scan_iter("slm:conv*")) == []
    for act in (store.find, store.read):
        with pytest.raises(NotFound):
            act(conversation)


def test_old_ones_expire_if_they_are_not_kept_for_ever(redis: Redis, store: ConversationStore) -> None:
    old, _ = begun(store, "Hi")
    redis.zadd(keys.conversations("me"), {old: 1})
    redis.zadd("slm:conversations:by_time", {old: 1})
    young, _ = begun(store, "Hi")
    store.tidy()
    assert store.find(old)
    ConversationStore(redis, quota=QUOTA, ttl_s=60).tidy()
    assert [one.id for one in store.newest("me", after=None, limit=9).items] == [young]
    assert redis.hgetall("slm:conversations:bytes") == {"me": str(size(redis, young))}


# -- the tree ----------------------------------------------------------------------------------------------------------


def test_messages_follow_the_one_that_is_shown_last(store: ConversationStore) -> None:
    conversation, _ = begun(store, "Hi")
    store.append(conversation, [new("Hello", role="assistant"), new("Who?")])
    assert shown(store.read(conversation)) == ["Hi", "Hello", "Who?"]


def test_an_edited_question_begins_a_branch_and_both_can_be_shown(store: ConversationStore) -> None:
    conversation, (first, _) = begun(store, "Hi", "Hello")
    store.append(conversation, [new("Hey", parent="")])
    store.append(conversation, [new("Hey yourself")])
    assert shown(store.read(conversation)) == ["Hey", "Hey yourself"]
    store.append(conversation, [new("Good day", parent=first)])
    assert shown(store.read(conversation)) == ["Hi", "Good day"]
    store.change(conversation, About(leaf_id=first))
    assert shown(store.read(conversation)) == ["Hi"]
    assert [one.text for one in store.read(conversation).messages] == ["Hi", "Hello", "Hey", "Hey yourself", "Good day"]


def test_what_does_not_exist_cannot_be_answered_or_shown(store: ConversationStore) -> None:
    conversation, _ = begun(store, "Hi")
    unknown = answer_id(str(uuid.uuid4()))
    for act, param in (
        (lambda: store.append(conversation, [new(parent=unknown)]), "parent_id"),
        (lambda: store.change(conversation, About(leaf_id=unknown)), "leaf_id"),
        (lambda: store.append("conv_" + str(uuid.uuid4()), [new()]), "conversation_id"),
        (lambda: store.change_message(conversation, unknown, lambda old: old), "message_id"),
    ):
        with pytest.raises(NotFound) as caught:
            act()
        assert caught.value.param == param
    assert shown(store.read(conversation)) == ["Hi"]


def test_an_append_that_is_sent_twice_adds_one_message(store: ConversationStore) -> None:
    conversation, _ = begun(store, "Hi")
    message = new("Hello")
    store.append(conversation, [message])
    store.append(conversation, [message])
    assert shown(store.read(conversation)) == ["Hi", "Hello"]


def test_two_that_append_at_once_lose_nothing(store: ConversationStore) -> None:
    conversation, _ = begun(store, "Hi")
    threads = [threading.Thread(target=store.append, args=(conversation, [new(str(i))])) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = store.read(conversation)
    assert sorted(one.text for one in read.messages) == sorted(["Hi", *map(str, range(8))])
    assert [one.number for one in read.messages] == list(range(1, 10))
    assert len(read.shown()) == 9


def test_a_message_is_deleted_with_its_replies_or_without(store: ConversationStore, redis: Redis) -> None:
    conversation, (_, second, _) = begun(store, "A", "B", "C")
    store.append(conversation, [new("B2", parent=second)])
    assert store.cut(conversation, second, keeps_replies=True) == 1
    assert shown(store.read(conversation)) == ["A", "B2"]
    assert sorted(one.text for one in store.read(conversation).messages) == ["A", "B2", "C"]
    assert store.cut(conversation, second, keeps_replies=True) == 0
    first = store.read(conversation).messages[0].id
    assert store.cut(conversation, first, keeps_replies=False) == 3
    read = store.read(conversation)
    assert (read.messages, read.record.leaf_id) == ([], "")
    assert redis.hgetall("slm:conversations:bytes") == {"me": str(size(redis, conversation))}


def test_changes_of_a_message_by_two_are_both_kept(store: ConversationStore) -> None:
    conversation, (message,) = begun(store, "Hi")

    def rate(old: Written) -> Written:
        if old.content == "Hi":  # meanwhile
            store.change_message(conversation, message, lambda one: replace(one, content="Hey"))
        return replace(old, rating="up")

    store.change_message(conversation, message, rate)
    written = store.read(conversation).messages[0].written
    assert (written.content, written.rating) == ("Hey", "up")


def test_a_change_that_never_succeeds_is_a_conflict(store: ConversationStore) -> None:
    conversation, (message,) = begun(store, "Hi")

    def late(old: Written) -> Written:
        store.change_message(conversation, message, lambda one: replace(one, content=one.content + "!"))
        return replace(old, rating="up")

    with pytest.raises(Conflict):
        store.change_message(conversation, message, late)


# -- quota -------------------------------------------------------------------------------------------------------------


def test_the_number_of_conversations_is_limited(store: ConversationStore) -> None:
    known = [begun(store)[0] for _ in range(QUOTA.conversations)]
    with pytest.raises(QuotaExceeded, match="at most 3 conversations"):
        begun(store)
    begun(store, owner="ann")
    store.delete(known[0])
    begun(store)


def test_the_number_of_messages_is_limited(store: ConversationStore) -> None:
    conversation, _ = begun(store, *"123456789")
    store.append(conversation, [new()])
    with pytest.raises(QuotaExceeded, match="at most 10 messages"):
        store.append(conversation, [new()])
    with pytest.raises(QuotaExceeded, match="at most 10 messages"):
        begun(store, *"12345678901")


def test_the_bytes_of_all_of_them_are_limited(store: ConversationStore, redis: Redis) -> None:
    first, (message,) = begun(store, "x" * 3000)
    second, _ = begun(store, "x" * 3000)
    for act in (
        lambda: begun(store, "x" * 3500),
        lambda: store.append(second, [new("x" * 3500)]),
        lambda: store.change(second, About(system_prompt="x" * 3600)),
        lambda: store.change_message(first, message, lambda old: replace(old, content="x" * 6600)),
    ):
        with pytest.raises(QuotaExceeded, match="at most 10000 bytes"):
            act()
    assert redis.hgetall("slm:conversations:bytes") == {"me": str(size(redis, first) + size(redis, second))}
    store.change_message(first, message, lambda old: replace(old, content="x"))
    store.append(second, [new("x" * 3500)])
    assert store.find(second).bytes == size(redis, second)


# -- answers of jobs ---------------------------------------------------------------------------------------------------


def test_the_answer_of_a_job_is_kept_when_it_ends(store: ConversationStore, jobs: JobStore, redis: Redis) -> None:
    conversation, (question,) = begun(store, "Hi")
    job_id = submit(jobs, store, conversation, question)
    running = message_of(store, conversation, job_id)
    assert running.answer is not None
    assert (running.parent_id, running.answer.job_id, running.answer.state) == (question, job_id, None)
    assert not running.is_lost
    succeed(jobs, job_id, "Hel", "lo.")
    redis.delete(keys.job(job_id), keys.log(job_id))  # its retention is over
    answer = message_of(store, conversation, job_id).answer
    assert answer is not None
    assert (answer.text, answer.state, answer.finish_reason) == ("Hello.", JobState.SUCCEEDED, "stop")
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 2)
    assert shown(store.read(conversation)) == ["Hi", "Hello."]
    assert store.find(conversation).bytes == size(redis, conversation)


def test_what_a_failed_job_has_said_is_kept(store: ConversationStore, jobs: JobStore) -> None:
    conversation, (question,) = begun(store, "Hi")
    job_id = submit(jobs, store, conversation, question)
    seq = begin(jobs, job_id, "Hel")
    jobs.fail(job_id, 1, [events.error(seq, InternalError("It broke."))])
    answer = message_of(store, conversation, job_id).answer
    assert answer is not None
    assert (answer.text, answer.state) == ("Hel", JobState.FAILED)
    assert "It broke." in str(answer.error)


def test_a_job_that_is_cancelled_in_the_queue_ends_its_message(store: ConversationStore, jobs: JobStore) -> None:
    conversation, (question,) = begun(store, "Hi")
    job_id = submit(jobs, store, conversation, question)
    jobs.cancel(job_id)
    answer = message_of(store, conversation, job_id).answer
    assert answer is not None
    assert (answer.text, answer.state) == ("", JobState.CANCELLED)


def test_a_job_that_a_worker_takes_with_it_is_kept_and_its_repetition_too(
    store: ConversationStore, jobs: JobStore, redis: Redis
) -> None:
    conversation, (question,) = begun(store, "Hi")
    job_id = submit(jobs, store, conversation, question)
    for attempt in range(MAX_CRASHES):
        begin(jobs, job_id, *(["Hel"] if attempt == 0 else []))
        redis.zadd(keys.leases("generate"), {job_id: 1})
        jobs.reap()
    answer = message_of(store, conversation, job_id).answer
    assert answer is not None
    assert (answer.text, answer.state) == ("Hel", JobState.FAILED)
    again = str(uuid.uuid4())
    jobs.retry(job_id, again, max_queue=9)
    running = message_of(store, conversation, job_id).answer
    assert running is not None
    assert (running.job_id, running.state) == (again, None)
    succeed(jobs, again, "Hello.")
    assert shown(store.read(conversation)) == ["Hi", "Hello."]


def test_a_job_that_ended_can_be_given_a_message(store: ConversationStore, jobs: JobStore) -> None:
    conversation, (question,) = begun(store, "Hi")
    other, _ = begun(store, "Hi")
    job_id = str(uuid.uuid4())
    jobs.submit(job_id, JobKind.STREAM, {"prompt": "Hi"}, owner="me", max_queue=9)
    succeed(jobs, job_id, "Hello.")
    written = NewMessage(answer_id(job_id), Written("assistant", ""), question, job_id)
    store.append(conversation, [written])
    store.append(conversation, [written])  # sent twice
    assert shown(store.read(conversation)) == ["Hi", "Hello."]
    for answer, owner, expected in (
        (NewMessage(answer_id(str(uuid.uuid4())), Written("assistant", ""), None, job_id), "me", Conflict),
        (NewMessage(answer_id(str(uuid.uuid4())), Written("assistant", ""), None, str(uuid.uuid4())), "me", NotFound),
        (NewMessage(answer_id(str(uuid.uuid4())), Written("assistant", ""), None, job_id), "ann", NotFound),
    ):
        with pytest.raises(expected):
            store.append(other if owner == "me" else begun(store, owner="ann")[0], [answer])


def test_an_edited_answer_is_shown_instead_of_the_jobs(store: ConversationStore, jobs: JobStore) -> None:
    conversation, (question,) = begun(store, "Hi")
    job_id = submit(jobs, store, conversation, question)
    store.change_message(conversation, answer_id(job_id), lambda old: replace(old, content="Hey", is_edited=True))
    succeed(jobs, job_id, "Hello.")
    assert shown(store.read(conversation)) == ["Hi", "Hey"]


def test_a_job_of_a_deleted_message_ends_quietly(store: ConversationStore, jobs: JobStore, redis: Redis) -> None:
    conversation, (question,) = begun(store, "Hi")
    kept, cut = submit(jobs, store, conversation, question), submit(jobs, store, conversation, question)
    store.cut(conversation, answer_id(cut), keeps_replies=False)
    succeed(jobs, cut, "Hello.")
    assert redis.hgetall("slm:conversations:bytes") == {"me": str(size(redis, conversation))}
    store.delete(conversation)
    succeed(jobs, kept, "Hello.")
    assert list(redis.scan_iter("slm:conv*")) == []


def test_a_message_is_lost_if_its_job_is(store: ConversationStore, jobs: JobStore, redis: Redis) -> None:
    conversation, (question,) = begun(store, "Hi")
    job_id = submit(jobs, store, conversation, question)
    redis.delete(keys.job(job_id))
    assert message_of(store, conversation, job_id).is_lost


@pytest.mark.parametrize("what", ["owner", "parent", "messages", "bytes"])
def test_a_job_that_cannot_write_its_message_is_refused(
    store: ConversationStore, jobs: JobStore, redis: Redis, what: str
) -> None:
    texts = {"messages": "1234567890", "bytes": ["x" * 9700]}.get(what, ["Hi"])
    conversation, messages = begun(store, *texts)
    owner, parent = ("ann" if what == "owner" else "me"), ("msg_x" if what == "parent" else messages[0])
    with pytest.raises(NotFound if what in ("owner", "parent") else QuotaExceeded) as caught:
        submit(jobs, store, conversation, parent, owner)
    assert caught.value.param == "conversation"
    assert list(redis.scan_iter("slm:job:*")) == []
    assert store.find(conversation).num_messages == len(messages)


def test_a_job_that_is_sent_twice_has_one_message(store: ConversationStore, jobs: JobStore) -> None:
    conversation, (question,) = begun(store, "Hi")
    place = AnswerPlace(conversation, question, 10, 10_000)
    for _ in range(2):
        options = JobOptions(place=place, idempotency_key="k", fingerprint="f")
        job_id = str(uuid.uuid4())
        jobs.submit(job_id, JobKind.GENERATE, {"prompt": "Hi"}, owner="me", max_queue=9, options=options)
    assert store.find(conversation).num_messages == 2


# -- search ------------------------------------------------------------------------------------------------------------


def test_titles_and_messages_are_searched(store: ConversationStore, jobs: JobStore, redis: Redis) -> None:
    conversation, (question,) = begun(store, "Where is ZÜRICH?")
    succeed(jobs, submit(jobs, store, conversation, question), "In Switzerland.")
    time.sleep(0.002)  # so that it is the latest
    other = store.create("me", About(title="Zürich"))

    def found(text: str, owner: str = "me") -> list[tuple[str, str | None]]:
        matches = search(redis, owner, text, after=None, limit=9).matches
        return [(one.conversation.id, one.message_id) for one in matches]

    assert found("zürich") == [(other, None), (conversation, question)]
    assert [one for one, _ in found("switzerland")] == [conversation]
    assert found("Paris") == []
    assert found("zürich", "ann") == []


def test_a_search_goes_on_after_the_last_conversation_that_it_read(
    store: ConversationStore, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    oldest, middle, newest = (begun(store, text)[0] for text in ("key", "a", "b") if time.sleep(0.002) is None)
    monkeypatch.setattr("common.conversations.search.MAX_CONVERSATIONS", 2)
    first = search(redis, "me", "key", after=None, limit=9)
    assert (first.matches, first.last_id, first.has_more) == ([], middle, True)
    second = search(redis, "me", "key", after=first.last_id, limit=9)
    assert ([one.conversation.id for one in second.matches], second.has_more) == ([oldest], False)
    everything = search(redis, "me", "A", after=None, limit=1)  # the title of all
    assert ([one.conversation.id for one in everything.matches], everything.has_more) == ([newest], True)
