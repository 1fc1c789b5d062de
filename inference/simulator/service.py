"""One request, from its directives to its last byte."""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import msgspec

from collector.domain.usage import Usage
from inference.simulator import metrics, openai_others, openai_responses
from inference.simulator.answers import Asked, compose
from inference.simulator.delivery import Delivery
from inference.simulator.dialects import (
    Api,
    api_of,
    error_body,
    is_anthropic,
    read_asked,
    read_prompt,
    shaped,
)
from inference.simulator.directives import Directives, InvalidDirective, directives_from, items_in
from inference.simulator.events import encode
from inference.simulator.faults import STATUS_FAULTS, Fault, FaultRule, strike
from inference.simulator.http import Exchange
from inference.simulator.kv_blocks import KvBlocks
from inference.simulator.models import ModelProfile, profile_of
from inference.simulator.prompt_cache import CacheFigures, PromptCache
from inference.simulator.prompts import InvalidPrompt, Prompt, of_text

METRICS_HEADERS = {"content-type": "text/plain; version=0.0.4; charset=utf-8", "x-bursar-simulator": "1"}
JSON_HEADERS = {"content-type": "application/json", "x-bursar-simulator": "1"}
_HTML = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    b"<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>simulated</center>\r\n</body>\r\n</html>\r\n"
)
_MESSAGES = {
    Fault.RATE_LIMIT: "Rate limit reached for {model} [simulated]. Please try again in {retry_after}s.",
    Fault.SERVER_ERROR: "The server had an error while processing your request. [simulated]",
    Fault.OVERLOADED: "Overloaded [simulated]",
    Fault.UNAUTHORIZED: "Incorrect API key provided. [simulated]",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """How the simulator behaves."""

    speed: float = 1.0
    """How many times faster than the models' own pace; 0 waits for nothing."""
    seed: int = 0
    """Decides texts, lengths and struck faults."""
    faults: tuple[FaultRule, ...] = ()
    """Faults that strike by chance."""
    kv_blocks: int = 0
    """Blocks of a vLLM server's prefix cache; 0: models that such a server has cache as OpenAI does."""
    kv_block_tokens: int = 16
    """Tokens in one of them."""


@dataclass(slots=True)
class _Call:
    """One request being answered."""

    exchange: Exchange
    api: Api
    body: Mapping[str, Any]
    model: str
    profile: ModelProfile
    directives: Directives
    seed: int
    key: str


class Simulator:
    """Answers like a provider, remembers like one, and keeps its own sums.

    ``GET /simulator/state`` tells these: calls, open and abandoned ones, and tokens by model as they
    were reported; the provider's side of every reconciliation.
    """

    def __init__(
        self,
        config: SimulatorConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._wall_clock = wall_clock
        self._started_at = wall_clock()
        self._cache = PromptCache(clock)
        self._kv = KvBlocks(config.kv_blocks, config.kv_block_tokens) if config.kv_blocks else None
        self._seen: OrderedDict[bytes, int] = OrderedDict()
        self._conversations: OrderedDict[str, bytes] = OrderedDict()
        self._counts: Counter[str] = Counter()
        self._tokens: dict[str, Counter[str]] = {}

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request; never raises but for cancellation, when the client has left."""
        if exchange.request.method == "GET":
            self._answer_get(exchange)
            return
        self._counts["open"] += 1
        try:
            await self._route(exchange)
        except asyncio.CancelledError:
            self._counts["abandoned"] += 1
            raise
        finally:
            self._counts["open"] -= 1

    def state(self) -> dict[str, object]:
        """Counts and reported tokens so far."""
        return {
            "simulator": True,
            "calls": self._counts["calls"],
            "open": self._counts["open"],
            "abandoned": self._counts["abandoned"],
            "faults": {name[6:]: count for name, count in self._counts.items() if name.startswith("fault:")},
            "tokens": {model: dict(tokens) for model, tokens in self._tokens.items()},
        }

    async def _route(self, exchange: Exchange) -> None:
        request = exchange.request
        api = api_of(request.path)
        if api is None or request.method != "POST":
            self._refuse(exchange, None, 404, f"Invalid URL ({request.method} {request.path})")
            return
        try:
            call = self._read(exchange, api)
            self._counts["calls"] += 1
            kind = f"open:{call.profile.owner}"
            self._counts[kind] += 1
            try:
                await self._answer(call)
            finally:
                self._counts[kind] -= 1
        except InvalidPrompt as error:
            self._refuse(exchange, api, 400, str(error), param=error.param, code=error.code)
        except (InvalidDirective, msgspec.DecodeError) as error:
            self._refuse(exchange, api, 400, f"The simulator cannot read this request: {error}")
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            # A field of a shape that the dialect does not define; its reader stumbled on it.
            self._refuse(exchange, api, 400, f"A field has a value of the wrong type: {error}")

    def _answer_get(self, exchange: Exchange) -> None:
        path = exchange.request.path
        if path.endswith("/models"):
            anthropic = "anthropic-version" in exchange.request.headers
            body = openai_others.model_list(int(self._wall_clock()), anthropic=anthropic)
            exchange.send(200, JSON_HEADERS, body)
        elif path in ("/", "/health", "/healthz"):
            exchange.send(200, JSON_HEADERS, encode({"status": "ok", "simulator": True}))
        elif path == "/metrics":
            counted = {
                model: sums
                for model, sums in self._tokens.items()
                if profile_of(model).owner == metrics.OWNER
            }
            text = metrics.exposition(counted, self._counts["open:vllm"], self._started_at, self._kv)
            exchange.send(200, METRICS_HEADERS, text)
        elif path == "/simulator/state":
            exchange.send(200, JSON_HEADERS, encode(self.state()))
        else:
            self._refuse(exchange, None, 404, f"Invalid URL (GET {path})")

    def _read(self, exchange: Exchange, api: Api) -> _Call:
        request = exchange.request
        body = msgspec.json.decode(request.body)
        if not isinstance(body, dict):
            raise InvalidPrompt("The body must be a JSON object.", "body")
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise InvalidPrompt("you must provide a model parameter", "model")
        digest = blake2b(request.body, digest_size=8, key=self._config.seed.to_bytes(8, "big")).digest()
        repeat = self._seen.pop(digest, -1) + 1
        self._seen[digest] = repeat
        if len(self._seen) > 4096:
            self._seen.popitem(last=False)
        seed = int.from_bytes(digest, "big") + repeat
        return _Call(
            exchange=exchange,
            api=api,
            body=body,
            model=model,
            profile=profile_of(model),
            directives=Directives(),
            seed=seed,
            key=f"{seed & (1 << 64) - 1:016x}",
        )

    async def _answer(self, call: _Call) -> None:
        if call.api is Api.EMBEDDINGS:
            texts = openai_others.embedding_inputs(call.body)
            prompt = of_text(texts[-1])
        else:
            texts = []
            prompt = read_prompt(call.api, call.body, self._earlier(call))
        call.directives = directives_from(
            items_in(call.exchange.request.headers, call.body, prompt.last_user_text)
        )
        call.seed += call.directives.seed
        delivery = Delivery(call.exchange, call.directives, self._speed(call.directives))
        fault = call.directives.fault or strike(self._config.faults, call.model, _draw(call.seed))
        if fault is not None:
            self._counts[f"fault:{fault}"] += 1
            if await self._failed_at_once(call, fault, delivery):
                return
        if call.api is Api.COUNT_TOKENS:
            call.exchange.send(200, JSON_HEADERS, encode({"input_tokens": prompt.tokens}))
        elif call.api is Api.EMBEDDINGS:
            await self._embed(call, texts, fault, delivery)
        else:
            await self._generate(call, prompt, fault, delivery)

    async def _failed_at_once(self, call: _Call, fault: Fault, delivery: Delivery) -> bool:
        if fault is Fault.DROP:
            call.exchange.reset()
            return True
        if fault not in STATUS_FAULTS:
            return False
        if fault is Fault.BAD_GATEWAY:
            call.exchange.send(502, {"content-type": "text/html", "x-bursar-simulator": "1"}, _HTML)
            return True
        status = STATUS_FAULTS[fault]
        if status == 529 and not is_anthropic(call.api):
            status = 503
        retry_after = f"{call.directives.retry_after_s:g}"
        headers = {"retry-after": retry_after} if status in (429, 503, 529) else {}
        message = _MESSAGES[fault].format(model=call.model, retry_after=retry_after)
        self._refuse(call.exchange, call.api, status, message, headers=headers)
        return True

    async def _embed(
        self, call: _Call, texts: Sequence[str], fault: Fault | None, delivery: Delivery
    ) -> None:
        dictated = call.directives.usage
        model = f"{call.model}-other" if fault is Fault.WRONG_MODEL else call.model
        tokens = None if dictated is None else dictated.input_tokens
        body = openai_others.embeddings(call.body, texts, tokens, model)
        if fault is Fault.MISSING_USAGE:
            body = encode({name: part for name, part in msgspec.json.decode(body).items() if name != "usage"})
        used = sum(-(-len(text.encode()) // 4) for text in texts) if tokens is None else tokens
        self._book(call.model, Usage(input_tokens=used))
        await delivery.body(body, call.profile.first_token_s, fault, self._headers(call))

    async def _generate(self, call: _Call, prompt: Prompt, fault: Fault | None, delivery: Delivery) -> None:
        asked = read_asked(call.api, call.body, prompt)
        if prompt.tokens > call.profile.context_tokens:
            raise InvalidPrompt(
                f"This model's maximum context length is {call.profile.context_tokens} tokens. "
                f"However, your messages resulted in {prompt.tokens} tokens.",
                "messages",
                "context_length_exceeded",
            )
        answer = compose(
            asked, call.directives, self._cached(call, prompt, asked), call.profile, call.seed, call.key
        )
        if fault is Fault.WRONG_MODEL:
            answer = replace(answer, model=f"{answer.model}-other")
        usage = None if fault is Fault.MISSING_USAGE else answer.usage
        created = int(self._wall_clock())
        shape = shaped(call.api, answer, asked, call.body, created, usage, call.profile.owner)
        if call.api is Api.RESPONSES and call.body.get("store") is not False:
            self._remember(openai_responses.response_id(answer), prompt.text + answer.texts[0].encode())
        self._book(call.model, answer.usage)
        if asked.stream:
            await delivery.stream(call.api, shape.events, answer, fault, self._headers(call))
        else:
            due_s = answer.first_token_s + answer.token_gap_s * sum(len(text) for text in answer.texts) / 4
            await delivery.body(shape.body, due_s, fault, self._headers(call))

    def _cached(self, call: _Call, prompt: Prompt, asked: Asked) -> CacheFigures:
        if call.directives.usage is not None:
            return CacheFigures()  # the figures are dictated: nothing to find out
        if self._kv is not None and call.profile.owner == metrics.OWNER:
            return CacheFigures(read=self._kv.read(call.model, prompt.text, prompt.tokens))
        if is_anthropic(call.api):
            return self._cache.marked(asked.model, prompt, minimum_tokens=call.profile.cache_minimum_tokens)
        return self._cache.automatic(asked.model, prompt)

    def _earlier(self, call: _Call) -> bytes:
        earlier_id = call.body.get("previous_response_id") if call.api is Api.RESPONSES else None
        if earlier_id is None:
            return b""
        if earlier_id not in self._conversations:
            raise InvalidPrompt(
                f"Previous response with id '{earlier_id}' not found.",
                "previous_response_id",
                "previous_response_not_found",
            )
        return self._conversations[earlier_id]

    def _remember(self, response_id: str, conversation: bytes) -> None:
        if len(conversation) <= 1 << 20:
            self._conversations[response_id] = conversation
        while len(self._conversations) > 256:
            self._conversations.popitem(last=False)

    def _book(self, model: str, usage: Usage) -> None:
        if model not in self._tokens and len(self._tokens) >= 200:
            model = "other"
        tokens = self._tokens.setdefault(model, Counter())
        tokens["calls"] += 1
        tokens["input_tokens"] += usage.input_tokens
        tokens["output_tokens"] += usage.output_tokens
        tokens["cache_read_input_tokens"] += usage.cache_read_input_tokens
        tokens["cache_write_input_tokens"] += usage.cache_write_input_tokens
        tokens["reasoning_output_tokens"] += usage.reasoning_output_tokens

    def _speed(self, directives: Directives) -> float:
        return self._config.speed if directives.speed is None else directives.speed

    def _headers(self, call: _Call) -> dict[str, str]:
        id_name = "request-id" if is_anthropic(call.api) else "x-request-id"
        return {"x-bursar-simulator": "1", id_name: f"req_sim{call.key}"}

    def _refuse(
        self,
        exchange: Exchange,
        api: Api | None,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        body = error_body(api, status, message, "", param, code)
        exchange.send(status, JSON_HEADERS | dict(headers or {}), body)


def _draw(seed: int) -> float:
    """A number in [0, 1) that looks random and follows from ``seed``."""
    return int.from_bytes(blake2b(seed.to_bytes(16, "big"), digest_size=7).digest(), "big") / (1 << 56)
