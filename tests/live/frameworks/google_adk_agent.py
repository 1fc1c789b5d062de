"""Google ADK with a model that is not Google's: its LiteLlm wrapper is the one line."""

import asyncio

from google.adk.agents import LlmAgent
from google.adk.models.lite_llm import LiteLlm
from google.adk.runners import InMemoryRunner
from google.genai import types


def look_up(city: str) -> str:
    """Look up the weather in a city."""
    return f"It is sunny in {city}."


agent = LlmAgent(
    name="weather", model=LiteLlm(model="openai/gpt-4o-mini"), instruction="Be brief.", tools=[look_up]
)


async def main() -> None:
    runner = InMemoryRunner(agent, app_name="weather")
    session = await runner.session_service.create_session(app_name="weather", user_id="u")
    asked = types.Content(role="user", parts=[types.Part(text="Use look_up for Paris, then tell me.")])
    text = ""
    async for event in runner.run_async(user_id="u", session_id=session.id, new_message=asked):
        for part in event.content.parts if event.content and event.content.parts else ():
            text = part.text or text
    await runner.close()
    print("ANSWER", text[:60])


asyncio.run(main())
