"""Frameworks for agents: each calls a tool, gives the result back, and reads the answer."""

from __future__ import annotations

from typing import Any

import pytest

from common.jobs.prompts import Conversation
from common.jobs.tools import ToolRules
from tests.foreign.conftest import Site
from tests.foreign.foreign_python import INSTALL_S, ForeignPython
from tests.scripted_worker import Play

pytestmark = pytest.mark.timeout(INSTALL_S)

CLIENT = """
import asyncio
from pydantic import BaseModel

class Weather(BaseModel):
    city: str
    rain: bool

QUESTION = "What is the weather in Paris?"
"""
LANGCHAIN = """
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

@tool
def get_weather(city: str) -> str:
    "Get the weather of a city."
    return f"It rains in {city}."

model = ChatOpenAI(model="gpt2", timeout=20, max_retries=0)
"""
PYDANTIC_AI = """
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel

def agent_of(model, **fields):
    agent = Agent(model("gpt2"), **fields)

    @agent.tool_plain
    def get_weather(city: str) -> str:
        "Get the weather of a city."
        return f"It rains in {city}."

    return agent
"""
INSTRUCTOR = """
import instructor
import openai

MESSAGES = [{"role": "user", "content": "It rains in Paris."}]
"""
AGENTS_SDK = """
from agents import Agent, ModelSettings, Runner, function_tool, set_default_openai_api

@function_tool
def get_weather(city: str) -> str:
    "Get the weather of a city."
    return f"It rains in {city}."

def agent(**fields):
    return Agent(name="a", model="gpt2", instructions="Be brief.", **fields)
"""
AUTOGEN = """
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_ext.models.openai import OpenAIChatCompletionClient

INFO = {"vision": False, "function_calling": True, "json_output": True, "structured_output": True, "family": "unknown"}

async def get_weather(city: str) -> str:
    "Get the weather of a city."
    return f"It rains in {city}."

def agent(name, **fields):
    return AssistantAgent(name, OpenAIChatCompletionClient(model="gpt2", model_info=INFO), **fields)
"""
SMOLAGENTS = """
import os
from smolagents import OpenAIServerModel, Tool, ToolCallingAgent

class GetWeather(Tool):
    name = "get_weather"
    description = "Get the weather of a city."
    inputs = {"city": {"type": "string", "description": "the city"}}
    output_type = "string"

    def forward(self, city: str) -> str:
        return f"It rains in {city}."

model = OpenAIServerModel("gpt2", api_base=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"])
"""
HAYSTACK = """
from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import Tool

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
tool = Tool("get_weather", "Get the weather of a city.", CITY, lambda city: f"It rains in {city}.")
ASKED = [ChatMessage.from_user(QUESTION)]
"""
ARGUMENTS = {"get_weather": '{"city": "Paris"}'}
WEATHER = '{"city": "Paris", "rain": true}'


def works(play: Play) -> None:
    """A model: it calls the first tool and then says what the tool said; a tool that is the answer's form ends it."""
    prompt, grammar = play.params.prompt, play.params.sampling.grammar
    assert isinstance(prompt, Conversation)
    last = prompt.messages[-1]
    if grammar is not None and grammar.kind != "tools":
        return play.end(WEATHER)
    if last["role"] == "tool" and (grammar is None or not ToolRules.of(grammar).must_call):
        return play.end(f"I heard: {last['content']}")
    if grammar is None:
        return play.end("No tools.")
    names = [one.name for one in ToolRules.of(grammar).functions]
    name = names[-1] if last["role"] == "tool" else names[0]
    play.say("<tool_call>\n", f'{{"name": "{name}", "arguments": ')
    return play.end(ARGUMENTS.get(name, WEATHER) + "}\n</tool_call>")


@pytest.fixture
def run(site: Site, agents: ForeignPython) -> Any:
    def run(*programs: str) -> list[Any]:
        with site.worker(works):
            return agents.run(CLIENT + "".join(programs))

    return run


SAID = "I heard: It rains in Paris."


def test_langchain_calls_tools_and_streams_them(run: Any) -> None:
    program = """
bound = model.bind_tools([get_weather], tool_choice="any", strict=True, parallel_tool_calls=False)
out([(call["name"], call["args"]) for call in bound.invoke(QUESTION).tool_calls])
chunks = list(bound.stream(QUESTION))
out([(call["name"], call["args"]) for call in sum(chunks[1:], chunks[0]).tool_calls])
out(model.bind_tools([get_weather], tool_choice="get_weather").invoke(QUESTION).tool_calls[0]["args"])
out(model.with_structured_output(Weather, method="function_calling").invoke(QUESTION).city)
"""
    call = ["get_weather", {"city": "Paris"}]
    assert run(LANGCHAIN, program) == [[call], [call], {"city": "Paris"}, "Paris"]


def test_a_langchain_agent(run: Any) -> None:
    program = """
asked = {"messages": [("user", QUESTION)]}
for use_responses_api in (False, True):
    agent = create_agent(ChatOpenAI(model="gpt2", timeout=20, use_responses_api=use_responses_api), [get_weather])
    out(agent.invoke(asked)["messages"][-1].text)
parts = [part for part, _ in create_agent(model, [get_weather]).stream(asked, stream_mode="messages")]
out("".join(part.text for part in parts if part.type == "AIMessageChunk"))
"""
    assert run(LANGCHAIN, program) == [SAID] * 3


def test_pydantic_ai(run: Any) -> None:
    program = """
async def streamed(agent):
    async with agent.run_stream(QUESTION) as answer:
        return [text async for text in answer.stream_text()][-1]

for model in (OpenAIChatModel, OpenAIResponsesModel):
    out(agent_of(model).run_sync(QUESTION).output)
    out(asyncio.run(streamed(agent_of(model))))
    found = agent_of(model, output_type=Weather).run_sync(QUESTION).output
    out([found.city, found.rain])
"""
    assert run(PYDANTIC_AI, program) == [SAID, SAID, ["Paris", True]] * 2


def test_instructor(run: Any) -> None:
    program = """
def ask(mode, **fields):
    client = instructor.from_openai(openai.OpenAI(timeout=20), mode=mode)
    return client.chat.completions.create(model="gpt2", response_model=Weather, messages=MESSAGES, **fields)

out(instructor.from_openai(openai.OpenAI()).chat.completions.create(
    model="gpt2", response_model=Weather, messages=MESSAGES).city)
for mode in ("TOOLS", "TOOLS_STRICT", "FUNCTIONS", "JSON_SCHEMA", "JSON", "RESPONSES_TOOLS"):
    out(ask(getattr(instructor.Mode, mode)).city)
client = instructor.from_openai(openai.OpenAI())
parts = client.chat.completions.create_partial(model="gpt2", response_model=Weather, messages=MESSAGES)
out([part.city for part in parts][-1])
"""
    assert run(INSTRUCTOR, program) == ["Paris"] * 8


@pytest.mark.parametrize("api", ["responses", "chat_completions"])
def test_the_openai_agents_sdk(run: Any, api: str) -> None:
    program = f"""
set_default_openai_api("{api}")
out(Runner.run_sync(agent(tools=[get_weather]), QUESTION).final_output)
required = ModelSettings(tool_choice="required")
out(Runner.run_sync(agent(tools=[get_weather], model_settings=required), QUESTION).final_output)
out(Runner.run_sync(agent(output_type=Weather), QUESTION).final_output.city)
helper = agent(handoff_description="Knows the weather", tools=[get_weather])

async def streamed():
    running = Runner.run_streamed(agent(tools=[get_weather]), QUESTION)
    kinds = [event.item.type async for event in running.stream_events() if event.type == "run_item_stream_event"]
    return [running.final_output, kinds]

out(asyncio.run(streamed()))
"""
    kinds = ["tool_call_item", "tool_call_output_item", "message_output_item"]
    assert run(AGENTS_SDK, program) == [SAID, SAID, "Paris", [SAID, kinds]]


def test_autogen(run: Any) -> None:
    program = """
async def last(running):
    return [one async for one in running.run_stream(task=QUESTION)][-1].messages[-1].content

out(asyncio.run(last(agent("ann", tools=[get_weather], reflect_on_tool_use=True))))
out(asyncio.run(last(agent("ann", tools=[get_weather], max_tool_iterations=2, model_client_stream=True))))
out(asyncio.run(last(agent("ann", output_content_type=Weather))).city)
team = RoundRobinGroupChat([agent("ann"), agent("bob")], termination_condition=MaxMessageTermination(3))
out(asyncio.run(last(team)))
"""
    assert run(AUTOGEN, program) == [SAID, SAID, "Paris", "No tools."]


def test_smolagents(site: Site, agents: ForeignPython) -> None:
    """It requires a call in each step, and the answer is one, too."""

    def steps(play: Play) -> None:
        prompt = play.params.prompt
        assert isinstance(prompt, Conversation)
        is_told = "It rains in Paris." in str(prompt.messages[1:])
        if is_told:
            return play.end('<tool_call>\n{"name": "final_answer", "arguments": {"answer": "Rain."}}\n</tool_call>')
        return works(play)

    program = """
for stream_outputs in (False, True):
    out(ToolCallingAgent([GetWeather()], model, verbosity_level=0, stream_outputs=stream_outputs).run(QUESTION))
"""
    with site.worker(steps):
        assert agents.run(CLIENT + SMOLAGENTS + program) == ["Rain.", "Rain."]


def test_haystack(run: Any) -> None:
    program = """
out(OpenAIChatGenerator(model="gpt2").run(ASKED)["replies"][0].text)
for streaming_callback in (None, lambda chunk: None):
    agent = Agent(chat_generator=OpenAIChatGenerator(model="gpt2"), tools=[tool], streaming_callback=streaming_callback)
    out(agent.run(messages=ASKED)["messages"][-1].text)
"""
    assert run(HAYSTACK, program) == ["No tools.", SAID, SAID]
