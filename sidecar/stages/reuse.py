"""The stage that gives answers again: it stands before the budgets, for what costs nothing needs no hold.

A call that no answer can be kept for passes after two look-ups in what is known of it already.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, cast

from collector.domain.policy.asking import Ask
from collector.domain.record import CacheResult, Outcome
from sidecar.books import Books
from sidecar.cache.answers import Answers
from sidecar.cache.directives import Wish, wish_of
from sidecar.cache.entry import Entry, entry_of
from sidecar.cache.flights import Flight
from sidecar.cache.key import REUSABLE, Key, asked_by, repeats_itself
from sidecar.cache.savings import avoided_pico
from sidecar.cache.settings import CacheConfig, CacheRouteConfig
from sidecar.call import Call, Onward, Reply, Reused, Stream
from sidecar.http import HeaderList
from sidecar.routing import Routing

if TYPE_CHECKING:
    from sidecar.cache.resemblance import Check, Question, Rule
    from sidecar.cache.similar.asking import Near


class Way(NamedTuple):
    """How a call is treated."""

    key: Key
    wish: Wish
    ttl_s: float
    question: "Question | None" = None
    """What similar answers may be looked for; None where only an identical one is given."""
    rule: "Rule | None" = None


class Reuse:
    """Answers calls from kept answers, and keeps the answers of others."""

    def __init__(self, config: CacheConfig, answers: Answers, books: Books, routing: Routing) -> None:
        self._config = config
        self._answers = answers
        self._books = books
        self._routing = routing
        self._routes = [(route.match.match(), name, route) for name, route in config.named_routes]
        self._asks_all = any(route.exact == "always" for route in config.routes)

    def __call__(self, call: Call, onward: Onward) -> Awaitable[Reply]:
        """Answer at once, or go onward."""
        facts = call.facts
        if facts is None or not (self._asks_all or repeats_itself(facts)) or facts.api not in REUSABLE:
            return onward(call)
        name, route = self._route_of(call)
        ttl_s = self._ttl_s(call, route)
        if ttl_s <= 0:
            return onward(call)
        wish = wish_of(call.request)
        if not (wish.read or wish.keep):
            return onward(call)
        asked = asked_by(call, self._config.share, self._answers.secret)
        if asked is None:
            return onward(call)
        call.cache = CacheResult.MISS
        way = Way(asked.key, wish, ttl_s)
        if self._answers.similar is not None and self._is_semantic(route):
            from sidecar.cache.resemblance import asks, rule_for

            rule = rule_for(self._config.similar, route)
            way = way._replace(question=asks(asked, rule), rule=rule)
        if route is None:
            return self._answer(call, onward, way)
        return self._counted(call, onward, way, name)

    async def _counted(self, call: Call, onward: Onward, way: Way, route: str) -> Reply:
        try:
            return await self._answer(call, onward, way)
        finally:
            self._answers.count(route, call.cache)

    def _route_of(self, call: Call) -> tuple[str, CacheRouteConfig | None]:
        """The first route that fits ``call``, and its name."""
        for match, name, route in self._routes:
            if match.accepts(cast(Ask, _Known(call, self._routing, match.names))):
                return name, route
        return "", None

    def _ttl_s(self, call: Call, route: CacheRouteConfig | None) -> float:
        """How long an answer to ``call`` may be given again; 0 where none may."""
        facts, config = call.facts, self._config
        assert facts is not None
        if route is None:
            return config.ttl if config.exact and repeats_itself(facts) else 0.0
        if route.exact == "off" or (route.exact == "on" and not repeats_itself(facts)):
            return 0.0
        return config.ttl if route.ttl is None else route.ttl

    def _is_semantic(self, route: CacheRouteConfig | None) -> bool:
        said = route.semantic if route is not None else None
        return self._config.semantic if said is None else said

    async def _answer(self, call: Call, onward: Onward, way: Way) -> Reply:
        answers, facts, key = self._answers, call.facts, way.key
        assert facts is not None
        flights = answers.flights
        check = None
        if way.wish.read:
            entry = await answers.get(key, call.caller.tenant, facts.model, way.wish.max_age_s)
            if entry is not None and self._suits(call, entry):
                return self._again(call, key, entry)
            if way.question is not None and flights.of(key) is None:
                found = await self._similar(call, way)
                if isinstance(found, Reply):
                    return found
                check = found
            flight = flights.of(key)
            if flight is not None:
                return await self._wait(call, onward, way, flight)
        elif flights.of(key) is not None:
            return await onward(call)  # Asked anew in its own right; the one in the air is for others.
        return await self._lead(call, onward, way, flights.begin(key), check)

    def _suits(self, call: Call, entry: Entry) -> bool:
        """Whether ``entry`` has all that ``call`` asks for: the usage of a stream may be missing."""
        facts = call.facts
        assert facts is not None
        return not (facts.include_usage and facts.stream) or bool(entry.usage_event)

    # -- similar answers

    async def _similar(self, call: Call, way: Way) -> "Reply | Check | None":
        """A similar answer, given; or to be compared with the model's; None where there is none."""
        answers, similar = self._answers, self._answers.similar
        facts, question, rule = call.facts, way.question, way.rule
        if similar is None:
            return None
        assert facts is not None
        assert question is not None
        assert rule is not None
        began = time.monotonic_ns()
        for near in await similar.find(question, rule):
            key = Key(way.key.scope, near.key)
            entry = await answers.get(key, call.caller.tenant, facts.model, way.wish.max_age_s)
            if entry is None:
                if way.wish.max_age_s == float("inf") and answers.is_certain:
                    similar.finder.drop(question.scope, question.owner, near.key)
            elif self._suits(call, entry):
                if similar.serves(question, near, rule):
                    call.reuse = Reused()
                    call.reuse.waited_ns = time.monotonic_ns() - began
                    return self._again(call, key, entry, near)
                return similar.check_of(question, near, rule, entry, call.call_id)
        return None

    # -- one asks, the others wait

    async def _wait(self, call: Call, onward: Onward, way: Way, flight: Flight) -> Reply:
        began = time.monotonic_ns()
        found = await flight.wait(self._config.wait)
        call.reuse = Reused()
        call.reuse.waited_ns = time.monotonic_ns() - began
        if isinstance(found, Entry) and self._suits(call, found):
            return self._again(call, way.key, found)
        if found is flight:
            return await self._lead(call, onward, way, flight, None)
        return await onward(call)

    async def _lead(
        self, call: Call, onward: Onward, way: Way, flight: Flight, check: "Check | None"
    ) -> Reply:
        """Ask, and keep the answer for those who wait and those who come."""
        call.reuse = call.reuse or Reused()
        call.reuse.keep = True
        purges = self._answers.purges
        try:
            reply = await onward(call)
        except asyncio.CancelledError:
            flight.left()
            raise
        except BaseException:
            flight.landed(None)
            raise

        def ended(left: bool) -> None:
            if left:
                flight.left()
            else:
                entry = self._keep(call, reply, way, purges)
                flight.landed(entry)
                if entry is not None and check is not None and self._answers.similar is not None:
                    self._answers.similar.compare(check, entry)

        if reply.stream is None:
            # After the reply is sent: nobody waits for what is kept.
            asyncio.get_running_loop().call_soon(ended, False)
        else:
            reply.stream = _Watched(reply.stream, ended)
        return reply

    def _keep(self, call: Call, reply: Reply, way: Way, purges: int) -> Entry | None:
        """Keep the answer to ``call``, if it may be; it, else None."""
        answers, reuse = self._answers, call.reuse
        assert reuse is not None
        if purges != answers.purges:
            return None
        if reply.stream is None:
            body = reply.body
        elif reuse.as_sent and call.captured_output is not None:
            body = bytes(call.captured_output)
        else:
            return None
        try:
            entry = entry_of(
                call, reply.status, reply.headers, body, answers.clock(), way.ttl_s, self._config.largest
            )
        except ValueError:  # What the upstream sent is no JSON: not to be repeated.
            return None
        if entry is not None:
            answers.put(way.key, entry)
            if way.question is not None and answers.similar is not None:
                answers.similar.add(way.question, way.key.digest, entry)
        return entry

    # -- given again

    def _again(self, call: Call, key: Key, entry: Entry, near: "Near | None" = None) -> Reply:
        """``entry`` as the reply to ``call``; ``near`` says how it was found, where another question was."""
        facts = call.facts
        assert facts is not None
        since_s = self._answers.asked_again(key, entry)
        region = facts.region or (call.target.upstream.region if call.target is not None else "")
        quote = self._books.prices.quote(entry.provider, entry.model, call.started_at_us, region)
        call.reuse = call.reuse or Reused()
        call.reuse.avoided_pico = avoided_pico(
            entry.usage, quote, entry.service_tier, entry.provider, since_s
        )
        call.outcome = Outcome.REUSED
        call.cache = CacheResult.HIT if near is None else CacheResult.SEMANTIC
        call.reply_facts = entry.reply_facts()
        body = entry.bytes_for(facts.include_usage)
        if call.caller.capture:
            call.captured_output = bytearray(body)
        age = max(0, int(self._answers.clock() - entry.stored_at))
        headers: HeaderList = [(b"content-type", entry.content_type), (b"age", b"%d" % age)]
        if near is not None:
            headers.append((b"x-bursar-cache-distance", b"%.3f" % near.distance))
            call.outcome_reason = f"similar {near.likeness} {near.distance:.4f}"
        return Reply(200, headers, body)


class _Watched:
    """A stream whose end somebody wants to know of."""

    __slots__ = ("_ended", "_stream")

    def __init__(self, stream: Stream, ended: Callable[[bool], None]) -> None:
        self._stream = stream
        self._ended = ended

    async def run(self, on_end: Callable[[], None]) -> None:
        """Relay it; then tell whether it was left before its end."""
        left = True
        try:
            await self._stream.run(on_end)
            left = False
        finally:
            self._ended(left)


class _Known:
    """What a rule may ask of a call (:class:`collector.domain.policy.asking.Ask`)."""

    __slots__ = (
        "agent", "conversation", "key", "model", "tags", "task", "team", "tenant", "upstream", "user",
    )  # fmt: skip

    def __init__(self, call: Call, routing: Routing, names: tuple[str, ...]) -> None:
        caller, facts = call.caller, call.facts
        assert facts is not None
        self.tenant, self.team, self.user, self.agent = caller.tenant, caller.team, caller.user, caller.agent
        self.conversation, self.task, self.key = caller.conversation, caller.task, caller.key_id
        self.model, self.tags = facts.model, caller.tags
        self.upstream = routing.target_of(call).upstream.name if "upstream" in names else ""
