"""Ollama's own packages for Python and Node."""

from __future__ import annotations

import pytest

from common.jobs.sampling import GrammarKind
from tests import node_packages
from tests.foreign.conftest import Site
from tests.foreign.foreign_python import INSTALL_S, ForeignPython
from tests.foreign.test_agents import SAID, works
from tests.foreign.test_openai_node import FOLDER, node
from tests.scripted_worker import Play, answer

pytestmark = pytest.mark.timeout(INSTALL_S)

STORY = answer("Once ", "upon ", "a time.")
CLIENT = """
import os
import ollama

client = ollama.Client(
    host=os.environ["OPENAI_BASE_URL"].removesuffix("/v1"),
    headers={"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]},
    timeout=60,
)
HI = [{"role": "user", "content": "Hi"}]

def refused(call):
    try:
        call()
    except ollama.ResponseError as err:
        out([err.status_code, err.error])
"""


def run(python: ForeignPython, program: str) -> list[object]:
    return python.run(CLIENT + program)


def test_the_models(site: Site, python: ForeignPython) -> None:
    program = """
out([model.model for model in client.list().models])
shown = client.show("gpt2")
out([shown.capabilities, shown.details.format])
out([model.model for model in client.ps().models])
"""
    with site.worker(STORY):
        names = ["default:latest", "gpt2:latest"]
        assert run(python, program) == [names, [["completion", "tools"], "safetensors"], ["gpt2:latest"]]


def test_a_chat_whole_and_streamed(site: Site, python: ForeignPython) -> None:
    program = """
whole = client.chat("gpt2", HI, options={"temperature": 0, "num_ctx": 2048}, keep_alive="5m")
out([whole.message.role, whole.message.content, whole.done, whole.done_reason, whole.eval_count])
pieces = list(client.chat("gpt2:latest", [*HI, whole.message, *HI], stream=True))
out([piece.message.content for piece in pieces])
out([pieces[-1].done, pieces[-1].total_duration >= 0])
"""
    with site.worker(STORY):
        story = ["Once ", "upon ", "a time.", ""]
        whole = ["assistant", "Once upon a time.", True, "stop", 3]
        assert run(python, program) == [whole, story, [True, True]]


def test_embeddings(site: Site, python: ForeignPython) -> None:
    program = """
many = client.embed("tiny-encoder", ["a", "abc"])
out([[list(one) for one in many.embeddings], many.prompt_eval_count])
out(list(client.embeddings("tiny-encoder", "abc").embedding)[:1])
refused(lambda: client.embed("tiny-encoder", "x" * 33, truncate=False))
"""
    with site.worker(STORY) as worker:
        worker.serve_embeddings()
        rest = [0.100000001, -0.333333343, 0.0]
        vectors = [[0.5, *rest], [1.5, *rest]]
        assert run(python, program) == [[vectors, 4], [1.5], [400, "input[0] has 33 tokens."]]


def test_a_generation_whole_streamed_and_asynchronous(site: Site, python: ForeignPython) -> None:
    program = """
import asyncio

out(client.generate("gpt2", "Hi", system="Be brief").response)
out([piece.response for piece in client.generate("gpt2", "Hi", stream=True)])
out(client.generate("gpt2", keep_alive=0).done_reason)

async def story():
    other = ollama.AsyncClient(host=str(client._client.base_url), headers=dict(client._client.headers))
    return [piece.response async for piece in await other.generate("gpt2", "Hi", stream=True)]

out(asyncio.run(story()))
"""
    with site.worker(STORY):
        pieces = ["Once ", "upon ", "a time.", ""]
        assert run(python, program) == ["Once upon a time.", pieces, "load", pieces]


def test_a_format_and_errors(site: Site, python: ForeignPython) -> None:
    kinds: list[GrammarKind] = []

    def keep(play: Play) -> None:
        grammar = play.params.sampling.grammar
        kinds.append(grammar.kind if grammar else GrammarKind.CHOICE)
        play.end("{}")

    program = """
client.chat("gpt2", HI, format="json")
client.chat("gpt2", HI, format={"type": "object"})
refused(lambda: client.chat("gpt-5", HI))
refused(lambda: client.embed("gpt2", "Hi"))
refused(lambda: client.chat("gpt2", [{"role": "user", "content": "Hi", "images": [b"x"]}]))
"""
    with site.worker(keep):
        (unknown, no_embeddings, no_images) = run(python, program)
    assert kinds == [GrammarKind.JSON_OBJECT, GrammarKind.JSON_SCHEMA]
    assert isinstance(unknown, list)
    assert unknown[0] == 404
    assert "embeddings" in str(no_embeddings)
    assert "images" in str(no_images)


def test_tools(site: Site, python: ForeignPython) -> None:
    program = """
def get_weather(city: str) -> str:
    \'\'\'Get the weather of a city.

    Args:
        city: the city
    \'\'\'
    return f"It rains in {city}."

said = client.chat("gpt2", HI, tools=[get_weather]).message
called = said.tool_calls[0].function
out([said.content, called.name, called.arguments])
result = {"role": "tool", "tool_name": called.name, "content": get_weather(**called.arguments)}
out(client.chat("gpt2", [*HI, said, result], tools=[get_weather]).message.content)
pieces = [piece.message for piece in client.chat("gpt2", HI, tools=[get_weather], stream=True)]
out([[call.function.name for call in piece.tool_calls or ()] for piece in pieces])
"""
    with site.worker(works):
        calls = [["get_weather"], []]
        assert run(python, program) == [["", "get_weather", {"city": "Paris"}], SAID, calls]


NODE = """
const {Ollama} = require('ollama');
const headers = {Authorization: `Bearer ${process.env.OPENAI_API_KEY}`};
const client = new Ollama({host: process.env.OPENAI_BASE_URL.replace('/v1', ''), headers});
const messages = [{role: 'user', content: 'Hi'}];
const out = (value) => console.log(JSON.stringify(value));
"""


def test_the_package_for_node(site: Site) -> None:
    program = """
        out((await client.list()).models.map((model) => model.name));
        const whole = await client.chat({model: 'gpt2', messages, options: {temperature: 0}});
        out([whole.message.content, whole.done_reason]);
        const pieces = [];
        const stream = await client.chat({model: 'gpt2', messages, stream: true});
        for await (const piece of stream) pieces.push(piece.message.content);
        out(pieces);
        out((await client.generate({model: 'gpt2', prompt: 'Hi', format: 'json'})).response);
        await client.show({model: 'gpt-5'}).catch((err) => out([err.name, err.status_code]));
    """
    node_packages.install(FOLDER)
    with site.worker(STORY):
        assert node(site, program, NODE) == [
            ["default:latest", "gpt2:latest"],
            ["Once upon a time.", "stop"],
            ["Once ", "upon ", "a time.", ""],
            "Once upon a time.",
            ["ResponseError", 404],
        ]


def test_tools_of_the_package_for_node(site: Site) -> None:
    program = """
        const parameters = {type: 'object', properties: {city: {type: 'string'}}};
        const tools = [{type: 'function', function: {name: 'get_weather', description: 'Get it', parameters}}];
        const said = (await client.chat({model: 'gpt2', messages, tools})).message;
        out(said.tool_calls[0].function);
        const result = {role: 'tool', tool_name: 'get_weather', content: 'It rains in Paris.'};
        out((await client.chat({model: 'gpt2', messages: [...messages, said, result], tools})).message.content);
    """
    node_packages.install(FOLDER)
    with site.worker(works):
        called = {"index": 0, "name": "get_weather", "arguments": {"city": "Paris"}}
        assert node(site, program, NODE) == [called, SAID]
