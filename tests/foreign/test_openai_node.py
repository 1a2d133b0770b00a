"""OpenAI's own client for Node."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from common.errors import PromptTooLong, WorkerLost
from common.jobs.sampling import GrammarKind
from tests import node_packages
from tests.foreign.conftest import Site
from tests.scripted_worker import Play, answer

FOLDER = Path(__file__).parent / "node"
PREAMBLE = """
const {OpenAI} = require('openai');
const client = new OpenAI({maxRetries: 0, timeout: 90000});
const wrong = new OpenAI({maxRetries: 0, timeout: 90000, apiKey: 'wrong'});
const ask = {model: 'gpt2', messages: [{role: 'user', content: 'Hi'}]};
const out = (value) => console.log(JSON.stringify(value));
const refused = (call) => call.then(out, (err) => out([err.constructor.name, err.status ?? null, err.code, err.param]));
"""
STORY = answer("Once ", "upon ", "a time.")


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    node_packages.install(FOLDER)


def node(site: Site, program: str, preamble: str = PREAMBLE) -> list[object]:
    """What the program's `out` was given, one JSON value after the other."""
    done = subprocess.run(
        ["node", "-e", f"{preamble}\n(async () => {{ {program} }})()"],
        cwd=FOLDER,
        env=os.environ | site.variables,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_models_a_chat_and_its_usage(site: Site) -> None:
    program = """
        out((await client.models.list()).data.map((model) => model.id));
        const done = await client.chat.completions.create({...ask, n: 2, temperature: 0, max_completion_tokens: 9});
        out([done.choices.map((choice) => choice.message.content), done.choices[0].finish_reason]);
        out(done.usage.completion_tokens);
        out((await client.completions.create({model: 'gpt2', prompt: 'Hi'})).choices[0].text);
    """
    with site.worker(STORY):
        story = "Once upon a time."
        assert node(site, program) == [["default", "gpt2"], [[story, story], "stop"], 6, story]


def test_a_stream_with_its_usage(site: Site) -> None:
    program = """
        const pieces = [];
        const usage = [];
        const asked = {...ask, stream: true, stream_options: {include_usage: true}};
        for await (const chunk of await client.chat.completions.create(asked)) {
            pieces.push(...chunk.choices.map((choice) => choice.delta.content).filter(Boolean));
            usage.push(...(chunk.usage ? [chunk.usage.completion_tokens] : []));
        }
        out([pieces, usage]);
        out(await client.chat.completions.stream(ask).finalContent());
    """
    with site.worker(STORY):
        assert node(site, program) == [[["Once ", "upon ", "a time."], [3]], "Once upon a time."]


def test_a_response_and_one_resumed_in_the_middle(site: Site) -> None:
    program = """
        out((await client.responses.create({model: 'gpt2', input: 'Hi'})).output_text);
        const begun = await client.responses.create({model: 'gpt2', input: 'Hi', background: true, stream: true});
        const seen = [];
        for await (const event of begun) {
            if (seen.push(event) === 5) break;
        }
        const id = seen[0].response.id;
        const stream = await client.responses.retrieve(id, {stream: true, starting_after: 4});
        const numbers = [];
        for await (const event of stream) numbers.push(event.sequence_number);
        out(numbers[0]);
        out((await client.responses.retrieve(id)).output_text);
    """
    with site.worker(STORY):
        assert node(site, program) == ["Once upon a time.", 5, "Once upon a time."]


def test_an_answer_that_follows_a_schema(site: Site) -> None:
    grammars = []

    def script(play: Play) -> None:
        grammars.append(play.params.sampling.grammar.kind)
        play.end('{"rating": 3}')

    program = """
        const schema = {type: 'object', properties: {rating: {type: 'integer'}}, required: ['rating']};
        const response_format = {type: 'json_schema', json_schema: {name: 'joke', strict: true, schema}};
        const done = await client.chat.completions.parse({...ask, response_format});
        out(done.choices[0].message.parsed);
    """
    with site.worker(script):
        assert node(site, program) == [{"rating": 3}]
    assert grammars == [GrammarKind.JSON_SCHEMA]


def test_errors_are_the_client_s_classes(site: Site, too_long: PromptTooLong) -> None:
    program = """
        await refused(client.chat.completions.create({...ask, temperature: 9}));
        await refused(client.chat.completions.create({...ask, model: 'gpt-5'}));
        await refused(wrong.chat.completions.create(ask));
        await refused(client.chat.completions.create(ask));
    """
    with site.worker(lambda play: play.fail(too_long)):
        assert node(site, program) == [
            ["BadRequestError", 400, "invalid_request", "temperature"],
            ["NotFoundError", 404, "model_not_found", "model"],
            ["AuthenticationError", 401, "invalid_api_key", None],
            ["BadRequestError", 400, "context_length_exceeded", "messages"],
        ]


def test_temporary_failures_are_retried_and_an_error_in_a_stream_is_raised(site: Site) -> None:
    asked = []

    def script(play: Play) -> None:
        asked.append(play.prompt)
        if len(asked) == 1:
            play.fail(WorkerLost("gone"))
        elif len(asked) == 2:
            play.end("ok")
        else:
            play.say("Once ")
            play.fail(WorkerLost("gone"))

    program = """
        out((await client.chat.completions.create(ask, {maxRetries: 2})).choices[0].message.content);
        const pieces = [];
        await refused((async () => {
            for await (const chunk of await client.chat.completions.create({...ask, stream: true})) {
                pieces.push(chunk.choices[0].delta.content);
            }
        })());
        out(pieces.join(''));
    """
    with site.worker(script):
        assert node(site, program) == ["ok", ["APIError", None, "worker_lost", None], "Once "]
