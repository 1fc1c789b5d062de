"""LangGraph, as its documentation begins. Nothing here knows of a proxy: OPENAI_BASE_URL says where it is."""

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.prebuilt import create_react_agent


@tool
def look_up(city: str) -> str:
    """Look up the weather in a city."""
    return f"It is sunny in {city}."


agent = create_react_agent(ChatOpenAI(model="gpt-4o-mini"), [look_up])
result = agent.invoke({"messages": [("user", "Use look_up for the weather in Paris, then tell me.")]})
print("ANSWER", result["messages"][-1].content[:60])
