"""Pydantic AI, over the Anthropic API. Nothing here knows of a proxy: ANTHROPIC_BASE_URL says where it is."""

from pydantic_ai import Agent

agent = Agent("anthropic:claude-sonnet-4-5", instructions="You tell the weather.")


@agent.tool_plain
def look_up(city: str) -> str:
    """Look up the weather in a city."""
    return f"It is sunny in {city}."


result = agent.run_sync("Use look_up for the weather in Paris, then tell me.")
print("ANSWER", str(result.output)[:60])
