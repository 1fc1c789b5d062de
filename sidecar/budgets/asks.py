"""What the policy is asked about a call: all that it may cost at one target, or at a cheaper one."""

from collector.domain.policy import Ask, Downgrade, State
from collector.domain.usage import Usage
from sidecar.accounting import FREE_APIS, tier_of
from sidecar.books import Books
from sidecar.budgets.bounds import (
    SEARCH_TOKENS,
    dearest_rates,
    marks_for_cache,
    most_input_tokens,
    most_output_tokens,
    most_searches,
    most_stored_tokens,
)
from sidecar.budgets.capabilities import Catalogue, Served, loses, saved
from sidecar.budgets.needs import needs_of
from sidecar.call import Call
from sidecar.errors import NoRoute
from sidecar.routing import Routing, Target


class Asks:
    """Makes asks of calls.

    Args:
        books: prices and ratios.
        state: what is known of calls of that kind.
        catalogue: what models can do.
    """

    def __init__(self, books: Books, state: State, catalogue: Catalogue) -> None:
        self._books = books
        self._state = state
        self._catalogue = catalogue

    def of(self, call: Call, target: Target, model: str) -> Ask:
        """What the policy must know of ``call`` if ``model`` served it at ``target``."""
        caller, facts, books = call.caller, call.facts, self._books
        assert facts is not None
        quote = books.quote(call, target.upstream, target.model)
        estimated, learned = books.input_tokens(target.model, facts.text_bytes)
        body = call.request.body
        tokens = most_input_tokens(facts, body, estimated, learned=learned)
        tokens += most_stored_tokens(facts, body, quote)
        price = quote.owed
        fees = 0
        if price.per_search and (searches := most_searches(body)):
            fees = searches * price.per_search
            tokens += searches * SEARCH_TOKENS
        asks_to_cache = caches_unasked = False
        if price.cache_write > price.input or price.cache_write_1h > price.input:
            asks_to_cache = marks_for_cache(body)
            # Claude's prompts are cached where a mark says so, whoever serves it; OpenAI caches by itself.
            caches_unasked = target.upstream.kind != "anthropic" and "claude" not in quote.model
        rates = dearest_rates(
            price,
            tokens,
            tier_of(facts),
            writes_cache=asks_to_cache or caches_unasked,
            keeps_long=asks_to_cache,
            media=facts.has_images,
        )
        is_free = call.api in FREE_APIS
        return Ask(  # in the order that it names them
            call.call_id,
            model,
            call.api,
            target.upstream.name,
            caller.tenant,
            caller.team,
            caller.user,
            caller.agent,
            caller.conversation,
            caller.task,
            caller.key_id,
            caller.tags,
            facts.stream,
            len(facts.message_hashes) > 2,
            0 if is_free else tokens,
            0 if is_free else tokens * rates.input + rates.per_request + fees,
            0 if is_free else most_output_tokens(facts, quote),
            max(1, facts.choice_count),
            rates.output,
            quote.grade != "prior",
            call.route.api != "raw",
        )

    def cheaper(
        self, call: Call, routing: Routing, ask: Ask, target: Target, wish: Downgrade
    ) -> tuple[Ask, Target] | None:
        """The first model of a ladder that can do what the call asks, and costs less for this very call."""
        facts, books = call.facts, self._books
        assert facts is not None
        expected = self._state.experience.expected(ask.model, ask.agent, ask.api, ask.continues)
        estimated, _ = books.input_tokens(target.model, facts.text_bytes)
        output = expected.output_typical or min(ask.output_cap, 1024)
        cached = estimated * 9 // 10 if ask.continues else 0
        usage = Usage(input_tokens=estimated, output_tokens=output, cache_read_input_tokens=cached)
        needs = needs_of(
            facts, call.request.body, input_tokens=ask.input_tokens, expected_output_tokens=output
        )
        staying = books.quote(call, target.upstream, target.model)
        source = served(target)
        allowed = call.caller.models
        for model in wish.to:
            if allowed is not None and model not in allowed:
                continue
            try:
                there = routing.target_of(call, model)
            except NoRoute:
                continue
            if loses(needs, source, served(there), self._catalogue) is not None:
                continue
            going = books.quote(call, there.upstream, there.model)
            if saved(staying.owed, going.owed, usage) <= 0:
                continue
            asked = self.of(call, there, model)
            asked.may_downgrade = False
            return asked, there
        return None


def served(target: Target) -> Served:
    """A target as capabilities are looked up for it."""
    upstream = target.upstream
    return Served(target.model, upstream.name, upstream.provider, upstream.kind)
