"""CrewAI: one agent, one task. Nothing here knows of a proxy."""

from crewai import Agent, Crew, Task
from crewai.tools import tool


@tool("look_up")
def look_up(city: str) -> str:
    """Look up the weather in a city."""
    return f"It is sunny in {city}."


reporter = Agent(
    role="reporter", goal="Tell the weather.", backstory="You are brief.", tools=[look_up], llm="gpt-4o-mini"
)
task = Task(
    description="Use look_up for the weather in Paris, then tell me.",
    expected_output="One sentence.",
    agent=reporter,
)
result = Crew(agents=[reporter], tasks=[task]).kickoff()
print("ANSWER", str(result)[:60])
