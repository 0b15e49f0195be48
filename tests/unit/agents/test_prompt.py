"""The prompt begins the same from call to call."""

from carrel.agents.prompt import ENVIRONMENT, system_prompt
from carrel.declare.tenant import Agent


def test_the_agents_own_word_comes_first_and_the_callers_last() -> None:
    agent = Agent(system_prompt="You are Ada.\n")
    assert system_prompt(agent, addition=" Be short. ") == f"You are Ada.\n\n{ENVIRONMENT}\n\nBe short."
    assert system_prompt(agent, addition="x").startswith(system_prompt(agent, addition=""))


def test_without_tools_there_is_no_sandbox_to_speak_of() -> None:
    assert system_prompt(Agent(tools=()), addition="") == ""
