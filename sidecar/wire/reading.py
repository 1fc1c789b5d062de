"""What has been read of one reply so far; dialects write here, :meth:`Reading.facts` sums it up."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from zlib import crc32

from collector.domain.money import pico_from_usd
from collector.domain.usage import Usage
from sidecar.wire.errors import read_error
from sidecar.wire.facts import ReplyFacts, RequestFacts, WireError
from sidecar.wire.hashing import DIGITS, call_mark, fold, tool_digest
from sidecar.wire.usage import read_usage

MOST_TEXT: Final = 1 << 20
"""Bytes of a reply's text kept for its hash; beyond, the hash is given up."""
_MOST_TOOLS: Final = 1024
_MOST_COST_USD: Final = 100_000
_MOST_NAME: Final = 256

Unit = tuple[str, bytes, str]
"""Role, text and marks of one message, ready to be hashed."""


def place_of(error: Exception) -> str:
    """What kind of error it is and where it was raised; its words may repeat what was read."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    file = trace.tb_frame.f_code.co_filename.replace("\\", "/").rpartition("/")[2]
    return f"{type(error).__name__} at {file}:{trace.tb_lineno}"


class Reading:
    """The state of one reply's meter. Bounded: texts beyond a size are counted, not kept."""

    __slots__ = (
        "chunks", "complete", "cost_pico", "error", "finish", "flags", "headers",
        "hidden_thinking", "prelude", "reasoning_bytes", "region", "request", "response_id",
        "response_model", "scratch", "searches", "service_tier", "status", "system_fingerprint",
        "text", "text_bytes", "tool_crcs", "tool_places", "tools", "units", "unread", "usage", "usage_block",
        "watch",
    )  # fmt: skip

    def __init__(
        self, request: RequestFacts, status: int = 200, headers: Mapping[bytes, bytes] | None = None
    ) -> None:
        self.request = request
        self.status = status
        self.headers: Mapping[bytes, bytes] = headers or {}
        self.response_id = ""
        self.response_model = ""
        self.service_tier = ""
        self.region = ""
        self.system_fingerprint = ""
        self.finish: dict[int, str] = {}
        self.tools: list[tuple[str, str]] = []
        self.tool_crcs: list[tuple[int, int]] = []
        """Of each tool call so far, the CRC-32 of name and arguments, and of those without digits."""
        self.tool_places: dict[tuple[int, int], int] = {}
        self.error: WireError | None = None
        self.chunks = 0
        self.complete = False
        self.text_bytes = 0
        self.reasoning_bytes = 0
        self.text = bytearray()
        self.watch: Callable[[bytes], object] | None = None
        """Told all that the model visibly writes, as it comes; of several choices the first."""
        self.units: list[Unit] | None = None
        self.usage_block: Mapping[str, Any] | None = None
        self.usage: Usage | None = None
        """What the block comes to, where whoever read it knew."""
        self.prelude = False
        """Only Anthropic's first counts were seen: their output is a placeholder."""
        self.hidden_thinking = False
        self.searches = 0
        self.cost_pico: int | None = None
        self.flags: list[str] = []
        self.unread = ""
        self.scratch: dict[str, Any] = {}
        """What a dialect must remember between events to end a stream validly."""

    def identify(self, response_id: object, model: object) -> None:
        """Note id and model; the first that are not empty stay (Azure's prelude has empty ones)."""
        if not self.response_id and isinstance(response_id, str | int) and response_id:
            self.response_id = str(response_id)[:_MOST_NAME]
        if not self.response_model and isinstance(model, str):
            self.response_model = model[:_MOST_NAME]

    def say(self, text: object, choice: int = 0) -> None:
        """Count text that the model wrote for the reader; the first choice's is kept for the hash."""
        if isinstance(text, str) and text:
            encoded = text.encode("utf-8", "replace")
            if choice == 0:
                self.hear(encoded)
            else:
                self.text_bytes += len(encoded)

    def hear(self, text: bytes) -> None:
        """Count ``text``, in UTF-8, of the first choice, and keep it for the hash."""
        self.text_bytes += len(text)
        if self.watch is not None:
            self.watch(text)
        if self.text_bytes <= MOST_TEXT:
            self.text += text
        else:
            self.give_up_hash()

    def think(self, text: object) -> None:
        """Count reasoning that the model showed; it is no part of the message."""
        if isinstance(text, str) and text:
            self.ponder(text.encode("utf-8", "replace"))

    def ponder(self, text: bytes) -> None:
        """Count reasoning, in UTF-8."""
        self.text_bytes += len(text)
        self.reasoning_bytes += len(text)
        if self.watch is not None:
            self.watch(text)

    def argue(self, text: object, place: int | None = None) -> None:
        """Count arguments of a tool call: of the one at ``place`` in the list, which they are hashed with."""
        if isinstance(text, str):
            encoded = text.encode("utf-8", "replace")
            self.text_bytes += len(encoded)
            if place is not None and -len(self.tool_crcs) <= place < len(self.tool_crcs):
                said, shape = self.tool_crcs[place]
                self.tool_crcs[place] = crc32(encoded, said), crc32(encoded.translate(None, DIGITS), shape)
            if self.watch is not None:
                self.watch(encoded)

    def call_tool(self, call_id: object, name: object) -> int:
        """Note that the agent is asked to run a tool; its place in the list."""
        if len(self.tools) < _MOST_TOOLS:
            named = name[:_MOST_NAME] if isinstance(name, str) else ""
            self.tools.append((str(call_id or "")[:_MOST_NAME], named))
            self.text_bytes += len(named)
            said = crc32(named.encode("utf-8", "replace"))
            self.tool_crcs.append((said, said))
        return len(self.tools) - 1

    def forget_tools(self) -> None:
        """They are told again from the beginning."""
        self.tools.clear()
        self.tool_crcs.clear()

    def finished(self, reason: object, choice: int = 0) -> None:
        """Note why a choice ended; a later reason for the same choice replaces an earlier."""
        if isinstance(reason, str) and reason:
            self.finish[choice] = reason[:_MOST_NAME]

    def use(self, block: object, usage: Usage | None = None) -> None:
        """Take ``block`` as the usage so far: running totals, so the last one wins.

        ``usage``: what it comes to, where that is known.
        """
        if isinstance(block, dict) and block:
            self.usage_block = block
            self.usage = usage
            self.prelude = False

    def add_usage(self, block: object) -> None:
        """Lay ``block`` over the usage so far, field by field: Anthropic repeats only what changed."""
        if isinstance(block, dict) and block:
            said = {name: value for name, value in block.items() if value is not None}
            self.usage_block = {**(self.usage_block or {}), **said}
            self.usage = None
            self.prelude = False

    def cost(self, amount_usd: object) -> None:
        """Note what the provider itself says the call cost, in USD, exactly as written."""
        if isinstance(amount_usd, bool) or not isinstance(amount_usd, int | float | str):
            return
        try:
            amount = Decimal(str(amount_usd))
        except InvalidOperation:
            return
        if amount.is_finite() and 0 <= amount <= _MOST_COST_USD:
            self.cost_pico = pico_from_usd(amount)
        else:
            self.doubt("cost_implausible")

    def fail(self, error: object) -> None:
        """Note the first error that the reply carries, as an object or as text."""
        if self.error is None and error:
            self.error = read_error(error, self.status, self.headers)

    def fail_beside(self, body: Mapping[str, Any]) -> bool:
        """Note an error that stands under status 200 beside what a dialect defines; whether there is one.

        MiniMax tells in ``base_resp`` how a call went, whatever API was asked; servers of old vLLM and
        FastChat answer with an object whose kind is ``error``.
        """
        went = body.get("base_resp")
        if isinstance(went, dict) and type(code := went.get("status_code")) is int and code:
            self.fail({"base_resp": went})
        elif body.get("object") == "error":
            self.fail(body)
        else:
            return False
        return True

    def doubt(self, flag: str) -> None:
        """Flag something about this reply that should be looked at."""
        if flag not in self.flags:
            self.flags.append(flag)

    def give_up(self, error: Exception) -> None:
        """Note that a reader failed, which is our own fault: part of this reply is unread."""
        self.unread = self.unread or place_of(error)
        self.doubt("unread")

    def facts(self) -> ReplyFacts:
        """The facts as they stand."""
        usage: Usage | None = None
        doubts: tuple[str, ...] = ()
        if self.usage is not None and not self.hidden_thinking:
            usage = self.usage
        elif self.usage_block is not None:
            usage, doubts = read_usage(self.usage_block, hidden_thinking=self.hidden_thinking)
        if usage is not None and self.searches and not usage.web_searches:
            usage = replace(usage, web_searches=self.searches)
        return ReplyFacts(
            usage=usage,
            response_id=self.response_id,
            response_model=self.response_model,
            finish_reasons=[self.finish[choice] for choice in sorted(self.finish)],
            tool_names=[name for _, name in self.tools],
            tool_call_hashes=[tool_digest(said, shape) for said, shape in self.tool_crcs],
            error=self.error,
            chunks=self.chunks,
            complete=self.complete and not self.prelude and not self.unread,
            output_text_bytes=self.text_bytes,
            reasoning_text_bytes=self.reasoning_bytes,
            provider_cost_pico=self.cost_pico,
            service_tier=self.service_tier,
            region=self.region,
            system_fingerprint=self.system_fingerprint,
            last_message_hash=self._hash(),
            usage_flags=(*doubts, *self.flags),
            unread=self.unread,
        )

    def _hash(self) -> int:
        """The rolling hash after this reply, 0 when it is unknown or there is nothing to send back."""
        hashes = self.request.message_hashes
        if not hashes or self.units == [] or self.request.choice_count > 1:
            return 0
        units = self.units
        if units is None:
            if not self.text and not self.tools:
                return 0
            marks = "".join([call_mark(call_id, name) for call_id, name in self.tools])
            units = [("assistant", bytes(self.text), marks)]
        rolling = hashes[-1]
        for role, text, marks in units:
            rolling = fold(rolling, role, text, marks)
        return rolling

    def give_up_hash(self) -> None:
        """The reply is too long for its text to be kept."""
        self.units = []
        self.text.clear()
