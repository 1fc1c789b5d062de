"""What a request asks, apart from everything around it: only that may differ between similar requests.

The last text of the user is the question. System prompt, history, tools, parameters and model are the scope,
which must be the same to the letter. Requests with tools, images or more than one answer have no question,
nor has a conversation, unless that is allowed; what has been said before then belongs to the scope.
"""

from typing import Any, Final

LONGEST: Final = 2_000
"""Characters of a question; a longer text is a document, and one word in it may turn the answer round."""
_TEXT_PARTS: Final = frozenset(("text", "input_text"))
_BEFORE: Final = frozenset(("system", "developer"))
_TURNS: Final = frozenset(("user", "assistant"))
_IN_PLACE: Final = "\ue000"
"""Stands in the scope where the question was."""


def question_of(
    api: str, body: dict[str, Any], *, multi_turn: bool = False
) -> tuple[str, dict[str, Any]] | None:
    """The question and everything else; None where there is no such thing.

    Args:
        body: what the request says; it is not changed.
        multi_turn: whether something may have been said before.
    """
    if any(body.get(name) for name in ("tools", "functions", "audio", "prediction")) or body.get("n", 1) != 1:
        return None
    if body.get("modalities", ["text"]) != ["text"]:
        return None
    match api:
        case "openai.chat" | "anthropic.messages":
            place = "messages"
        case "openai.responses":
            place = "input"
        case _:
            return None
    said = body.get(place)
    if place == "input" and isinstance(said, str):
        return _asked(said, body, place, _IN_PLACE)
    if not isinstance(said, list) or not said or not _is_talk(said, multi_turn):
        return None
    last = said[-1]
    content = last["content"]
    held: Any = _IN_PLACE
    if isinstance(content, str):
        text = content
    else:
        if len(content) != 1:
            return None
        text, held = content[0]["text"], [content[0] | {"text": _IN_PLACE}]
    return _asked(text, body, place, [*said[:-1], last | {"content": held}])


def _asked(text: str, body: dict[str, Any], place: str, rest: Any) -> tuple[str, dict[str, Any]] | None:
    if not text.strip() or len(text) > LONGEST:
        return None
    return text, body | {place: rest}


def _is_talk(messages: list[Any], multi_turn: bool) -> bool:
    """Whether nothing but text was said, by the user last."""
    users = 0
    for message in messages:
        if not isinstance(message, dict) or message.get("type", "message") != "message":
            return False
        role = message.get("role")
        if message.get("tool_calls") or message.get("function_call") or not _is_text(message.get("content")):
            return False
        if role in _TURNS:
            users += 1
        elif role not in _BEFORE:
            return False
    return messages[-1].get("role") == "user" and (users == 1 or multi_turn)


def _is_text(content: Any) -> bool:
    if isinstance(content, str):
        return True
    return isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") in _TEXT_PARTS and isinstance(part.get("text"), str)
        for part in content
    )
