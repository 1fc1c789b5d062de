"""The OpenAI Agents SDK, over the Responses API. Nothing here knows of a proxy."""

from agents import Agent, Runner, function_tool, set_tracing_disabled

set_tracing_disabled(True)  # Its traces go to OpenAI; there is no key for that here.


@function_tool
def look_up(city: str) -> str:
    """Look up the weather in a city."""
    return f"It is sunny in {city}."


agent = Agent(name="weather", instructions="You tell the weather.", tools=[look_up], model="gpt-4o-mini")
result = Runner.run_sync(agent, "Use look_up for the weather in Paris, then tell me.")
print("ANSWER", str(result.final_output)[:60])
