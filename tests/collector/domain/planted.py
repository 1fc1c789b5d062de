"""Conversations with a provider's prompt cache behind them, and what can be planted in them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from zlib import crc32

from collector.domain.turns import Rates, Turn
from sidecar.wire.hashing import call_digest, fold, told_two_ways, tools_digest

OPENAI = Rates(input=2_500_000, output=10_000_000, cache_read=250_000, cache_write=2_500_000)
ANTHROPIC = Rates(input=3_000_000, output=15_000_000, cache_read=300_000, cache_write=3_750_000)
SECOND = 1_000_000


class Provider:
    """Remembers prefixes as one of the two kinds of providers does; four bytes are a token."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.rates = OPENAI if kind == "automatic" else ANTHROPIC
        self._known: dict[tuple[str, str, int, int], float] = {}

    def ask(
        self, model: str, upstream: str, blocks: Sequence[bytes], at_s: float, ttl_s: float
    ) -> tuple[int, int]:
        """Tokens read and written of a prompt."""
        text = b"".join(blocks)
        if self.kind == "automatic":
            ends = list(range(512, len(text) + 1, 512))
        else:
            ends = list(accumulate(map(len, blocks)))
        prefixes, rolling, start = {}, 0, 0
        for end in ends:
            rolling = crc32(text[start:end], rolling)
            prefixes[end] = (model, upstream, end, rolling)
            start = end
        read = max((end for end in ends if self._known.get(prefixes[end], 0.0) >= at_s), default=0) // 4
        if self.kind == "automatic":
            self._known |= dict.fromkeys(prefixes.values(), at_s + ttl_s)
            return (read if read >= 1024 else 0), 0
        last = ends[-1]
        if last // 4 < 1024:
            return 0, 0
        for end in ends:  # Breakpoints look twenty blocks back.
            if end == last or self._known.get(prefixes[end], 0.0) >= at_s:
                self._known[prefixes[end]] = at_s + ttl_s
        return read, last // 4 - read


@dataclass
class Talk:
    """One conversation as it is made."""

    seed: int
    kind: str = "automatic"
    system: str = "You are careful. "
    tools: list[bytes] = field(default_factory=lambda: [b'{"name":"search"}', b'{"name":"read"}'])
    model: str = "big"
    upstream: str = "one"
    downgraded_from: str = ""
    clock: bool = False
    ttl_s: float = 300.0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.provider = Provider(self.kind)
        self.now_s = 1_790_000_000.0
        self.system += self.words(self.random.randint(900, 3000))
        self.messages: list[tuple[str, bytes]] = []
        self.turns: list[Turn] = []

    def words(self, size: int) -> str:
        return "".join(f"{self.random.choice(WORDS)} " for _ in range(size // 5))[:size]

    def say(self, text: str, role: str = "user") -> None:
        self.messages.append((role, text.encode()))

    def call(
        self, *, wait_s: float = 5.0, answer: str | None = None, tool: str = "", **changes: object
    ) -> Turn:
        """Ask the model; the reply joins the history."""
        self.now_s += wait_s
        system = f"Now it is 10:{len(self.turns):02d}:{self.random.randint(10, 59)}. " if self.clock else ""
        said = (system + self.system).encode()
        definitions = b"[" + b",".join(self.tools) + b"]"
        chat = self.kind == "automatic"
        listed = [("system", said), *self.messages] if chat else self.messages
        hashes: list[int] = []
        rolling = 0
        for role, text in listed:
            rolling = fold(rolling, role, text)
            hashes.append(rolling)
        blocks = [definitions, *([] if chat else [said]), *(text for _, text in listed)]
        read, written = self.provider.ask(self.model, self.upstream, blocks, self.now_s, self.ttl_s)
        size = sum(map(len, blocks)) // 4
        reply = (answer if answer is not None else self.words(self.random.randint(200, 900))).encode()
        output = len(reply) // 4 + 10
        rates = self.provider.rates
        cost = (size - read - written) * rates.input + read * rates.cache_read
        cost += written * rates.cache_write + output * rates.output
        role, last = self.messages[-1]
        turn = Turn(
            call_id=f"{self.seed}-{len(self.turns)}",
            started_us=int(self.now_s * SECOND),
            ended_us=int((self.now_s + 2) * SECOND),
            agent="planted",
            model=self.model,
            upstream=self.upstream,
            downgraded_from=self.downgraded_from,
            cost_pico=cost,
            list_pico=cost,
            input_tokens=size,
            output_tokens=output,
            cache_read_tokens=read,
            cache_write_tokens=written,
            hashes=hashes,
            reply_hash=fold(rolling, "assistant", reply),
            calls=(call_digest(tool, reply),) if tool else (),
            role=role,
            said=told_two_ways(last),
            tools=tools_digest(definitions),
            system=told_two_ways(said),
            rates=rates,
        )
        turn = turn._replace(**changes)  # type: ignore[arg-type]
        self.turns.append(turn)
        self.messages.append(("assistant", reply))
        self.now_s += 2
        return turn

    def grow(self, turns: int) -> None:
        """Ordinary turns: something new, and an answer."""
        for _ in range(turns):
            if self.random.random() < 0.5:
                self.say(self.words(self.random.randint(100, 2500)), "tool")
            else:
                self.say(self.words(self.random.randint(20, 400)))
            self.call(tool=self.random.choice(("", "search")), wait_s=self.random.uniform(0.5, 60))


WORDS = (
    "account", "bridge", "castle", "dinner", "engine", "forest", "garden", "harbor", "island", "jacket",
    "kettle", "ladder", "market", "needle", "orange", "pencil", "quartz", "rocket", "silver", "timber",
)  # fmt: skip
