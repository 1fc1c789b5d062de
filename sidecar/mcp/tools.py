"""The server and its tools: what an agent can know and say of its own spending.

Imports the ``mcp`` SDK, which takes most of a second: nothing else here does.
"""

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from sidecar import __version__
from sidecar.mcp.asking import Asking, Rejected, SidecarUnavailable
from sidecar.mcp.estimates import Estimator

INSTRUCTIONS = """\
Your model calls are paid from budgets. Look at budget_status before long work and plan by what
remains; estimate_cost says what a call may cost; report_outcome says whether a task succeeded, so
that what it cost can be set against what came of it."""

READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
TELLS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
)

Tokens = Annotated[int | None, Field(ge=0, le=100_000_000)]
Text = Annotated[str | None, Field(max_length=8_000_000)]
Id = Annotated[str | None, Field(min_length=1, max_length=256)]


def build_server(asking: Asking, estimator: Callable[[], Estimator]) -> MCPServer:
    """The server, ready to run.

    Args:
        asking: the sidecar and who asks.
        estimator: made when the first estimate is wanted; the price book takes some milliseconds.
    """
    server = MCPServer("bursar", version=__version__, instructions=INSTRUCTIONS, log_level="WARNING")
    held: list[Estimator] = []

    @server.tool(annotations=READS)
    def budget_status() -> dict[str, Any]:
        """How your budgets stand.

        For each: its limit, what is spent, what running calls hold, what remains, and when it resets
        (amounts in the budget's unit: usd, tokens or calls). An empty list: nothing limits you.
        """
        return _told(lambda: asking.get("/bursar/v1/budgets"))

    @server.tool(annotations=READS)
    def estimate_cost(
        model: Annotated[str, Field(min_length=1, max_length=256)],
        input_tokens: Tokens = None,
        text: Text = None,
        max_output_tokens: Tokens = None,
    ) -> dict[str, Any]:
        """What a call to a model may cost, as a range in USD.

        Give input_tokens, or the text of the prompt itself; without max_output_tokens the model's
        own maximum counts. grade says how well the price is known: listed, configured, or prior (a
        careful guess for a model that no price list has).
        """
        if not held:
            held.append(estimator())
        try:
            found = held[0].estimate(
                model,
                time.time_ns() // 1000,
                input_tokens=input_tokens,
                text=text,
                max_output_tokens=max_output_tokens,
            )
        except ValueError as error:
            raise ToolError(str(error)) from error
        fewest, most = found.input_tokens
        return {
            "model": model,
            "low_usd": _written(found.low_usd),
            "high_usd": _written(found.high_usd),
            "prompt_usd": _written(found.prompt_usd),
            "input_tokens": {"low": fewest, "high": most},
            "max_output_tokens": found.max_output_tokens,
            "provider": found.provider,
            "priced_as": found.priced_as,
            "grade": found.grade,
            "source": found.source,
            "reason": found.reason,
        }

    @server.tool(annotations=TELLS)
    def report_outcome(
        success: bool,
        task_id: Id = None,
        conversation_id: Id = None,
        trace_id: Id = None,
        score: float | None = None,
        value_usd: float | None = None,
        note: Annotated[str | None, Field(max_length=2000)] = None,
    ) -> dict[str, Any]:
        """Say what came of a task, a conversation or a trace; name one of them by its id.

        score is your own measure of quality, value_usd what the result is worth.
        """
        if not (task_id or conversation_id or trace_id):
            raise ToolError("name what succeeded or failed: task_id, conversation_id or trace_id")
        said = {
            "task_id": task_id,
            "conversation_id": conversation_id,
            "trace_id": trace_id,
            "success": success,
            "score": score,
            "value_usd": value_usd,
            "note": note,
        }
        content = {name: value for name, value in said.items() if value is not None}
        return {"recorded": True, **_told(lambda: asking.post("/bursar/v1/outcomes", content))}

    return server


def _written(amount: Decimal) -> str:
    """An exact amount without the zeros at its end."""
    return f"{amount.normalize():f}"


def _told(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return ask()
    except (SidecarUnavailable, Rejected) as error:
        raise ToolError(str(error)) from error
