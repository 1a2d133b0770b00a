"""Anthropic's own packages for Python and Node."""

from __future__ import annotations

import pytest

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
import anthropic

url = os.environ["OPENAI_BASE_URL"].removesuffix("/v1")
client = anthropic.Anthropic(base_url=url, api_key=os.environ["OPENAI_API_KEY"], max_retries=0, timeout=60)
HI = [{"role": "user", "content": "Hi"}]
ask = {"model": "gpt2", "max_tokens": 9, "messages": HI}

def refused(call):
    try:
        call()
    except anthropic.APIError as err:
        out([type(err).__name__, getattr(err, "status_code", None)])
"""


def run(python: ForeignPython, program: str) -> list[object]:
    return python.run(CLIENT + program)


def test_a_message_and_its_tokens(site: Site, python: ForeignPython) -> None:
    program = """
said = client.messages.create(**ask, system="Be brief", extra_body={"temperature": 0}, metadata={"user_id": "ann"})
out([said.content[0].text, said.stop_reason, said.model, said.usage.output_tokens])
out(client.messages.create(**ask | {"messages": [*HI, said.to_param(), *HI]}).role)
out(client.messages.count_tokens(model="gpt2", messages=HI).input_tokens > 0)
"""
    with site.worker(STORY):
        assert run(python, program) == [["Once upon a time.", "end_turn", "gpt2", 3], "assistant", True]


def test_a_stream(site: Site, python: ForeignPython) -> None:
    program = """
with client.messages.stream(**ask) as stream:
    out(list(stream.text_stream))
    last = stream.get_final_message()
out([last.content[0].text, last.stop_reason, last.usage.input_tokens > 0, last.usage.output_tokens])
"""
    with site.worker(STORY):
        assert run(python, program) == [["Once ", "upon ", "a time."], ["Once upon a time.", "end_turn", True, 3]]


def test_a_stop_sequence(site: Site, python: ForeignPython) -> None:
    program = """
said = client.messages.create(**ask, stop_sequences=["x"])
out([said.stop_reason, said.stop_sequence])
"""

    def stop(play: Play) -> None:
        play.end("ok", stop_string=play.params.sampling.stop[0])

    with site.worker(stop):
        assert run(python, program) == [["stop_sequence", "x"]]


def test_errors(site: Site, python: ForeignPython) -> None:
    program = """
refused(lambda: client.messages.create(**ask | {"model": "gpt-5"}))
refused(lambda: client.messages.create(**ask, tools=[{"type": "bash_20250124", "name": "bash"}]))
refused(lambda: anthropic.Anthropic(base_url=url, api_key="wrong", max_retries=0).messages.create(**ask))
"""
    with site.worker(STORY):
        assert run(python, program) == [["NotFoundError", 404], ["BadRequestError", 400], ["AuthenticationError", 401]]


def test_tools(site: Site, python: ForeignPython) -> None:
    program = """
from anthropic import beta_tool

tools = [{"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]
asked = ask | {"tools": tools}
said = client.messages.create(**asked, tool_choice={"type": "any", "disable_parallel_tool_use": True})
out([said.stop_reason, said.content[0].name, said.content[0].input])
with client.messages.stream(**asked, tool_choice={"type": "tool", "name": "get_weather"}) as stream:
    out("".join(event.partial_json for event in stream if event.type == "input_json"))
    out(stream.get_final_message().content[0].input)
result = {"type": "tool_result", "tool_use_id": said.content[0].id, "content": "It rains in Paris."}
again = [*HI, said.to_param(), {"role": "user", "content": [result]}]
out(client.messages.create(**asked | {"messages": again}).content[0].text)
count = client.messages.count_tokens
out(count(model="gpt2", messages=HI, tools=tools).input_tokens > count(model="gpt2", messages=HI).input_tokens)

@beta_tool
def get_weather(city: str) -> str:
    "Get the weather of a city."
    return f"It rains in {city}."

out(client.beta.messages.tool_runner(**ask, tools=[get_weather]).until_done().content[0].text)
"""
    paris = {"city": "Paris"}
    with site.worker(works):
        assert run(python, program) == [
            ["tool_use", "get_weather", paris],
            '{"city": "Paris"}',
            paris,
            SAID,
            True,
            SAID,
        ]


NODE = """
const Anthropic = require('@anthropic-ai/sdk').default;
const baseURL = process.env.OPENAI_BASE_URL.replace('/v1', '');
const client = new Anthropic({baseURL, apiKey: process.env.OPENAI_API_KEY, maxRetries: 0, timeout: 90000});
const ask = {model: 'gpt2', max_tokens: 9, messages: [{role: 'user', content: 'Hi'}]};
const out = (value) => console.log(JSON.stringify(value));
"""


def test_the_package_for_node(site: Site) -> None:
    program = """
        const said = await client.messages.create(ask);
        out([said.content[0].text, said.stop_reason, said.usage.output_tokens]);
        const last = await client.messages.stream(ask).finalMessage();
        out([last.content[0].text, last.stop_reason, last.usage.output_tokens]);
        await client.messages.create({...ask, model: 'gpt-5'}).catch((err) => out([err.constructor.name, err.status]));
    """
    node_packages.install(FOLDER)
    story = ["Once upon a time.", "end_turn", 3]
    with site.worker(STORY):
        assert node(site, program, NODE) == [story, story, ["NotFoundError", 404]]


def test_tools_of_the_package_for_node(site: Site) -> None:
    program = """
        const tools = [{name: 'get_weather', input_schema: {type: 'object', properties: {city: {type: 'string'}}}}];
        const said = await client.messages.stream({...ask, tools}).finalMessage();
        out([said.stop_reason, said.content[0].name, said.content[0].input]);
        const result = {type: 'tool_result', tool_use_id: said.content[0].id, content: 'It rains in Paris.'};
        const more = [{role: said.role, content: said.content}, {role: 'user', content: [result]}];
        out((await client.messages.create({...ask, tools, messages: [...ask.messages, ...more]})).content[0].text);
    """
    node_packages.install(FOLDER)
    with site.worker(works):
        assert node(site, program, NODE) == [["tool_use", "get_weather", {"city": "Paris"}], SAID]
