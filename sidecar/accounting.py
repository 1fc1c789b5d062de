"""What a call used and what that costs: pure functions of what is known when it ended.

No path ends in a silent zero. Where the provider did not say, the numbers are our estimate or,
when nothing of a reply is known though it may be billed, the hold; and the grade says which.
"""

from dataclasses import replace
from typing import NamedTuple

from collector.domain.price import cost_parts, list_cost, search_cost
from collector.domain.record import REGION, Charges, PriceGrade
from collector.domain.usage import NOTHING, Usage, UsageGrade
from collector.pricing.book import Quote
from sidecar.wire import ReplyFacts, RequestFacts

DEFAULT_OUTPUT_HOLD = 4096
"""Output tokens assumed when neither the request nor the price book bounds them."""

MOST_HELD = 1_000_000_000
"""Output tokens, over all choices: no call is answered with more, and what they cost fits the record."""

_REFUSALS = frozenset({"rate_limit", "overloaded", "quota", "auth", "permission", "not_found"})
"""Errors of which no token was computed, where nothing was said before them. ``invalid_request`` is not among
them: Groq calls so a tool call that its model wrote wrongly."""

FREE_APIS = frozenset({"anthropic.count_tokens", "models"})


class Known(NamedTuple):
    """All that is known of one attempt when it ended."""

    api: str
    sent: bool
    """Whether the request may have reached the provider."""
    status: int | None
    """Of the provider's reply; None when none came."""
    stream: bool
    """Whether the reply came, or was to come, in pieces that are each of use."""
    facts: ReplyFacts | None
    """What the reply said, as far as it came."""
    estimated_input: int
    estimated_output: int
    """Tokens of the output seen so far; not needed when usage was reported to the end."""
    hold_input: int
    hold_output: int
    background: bool = False
    """The work goes on after the reply."""


def usage_of(known: Known) -> tuple[Usage, UsageGrade | None]:
    """The tokens to charge, and where the number comes from; no grade when nothing was consumed."""
    facts = known.facts
    if not known.sent or known.api in FREE_APIS:
        return NOTHING, None
    if known.status is None:
        return _without_reply(known)
    if facts is not None and facts.usage is not None:
        if facts.complete:
            return facts.usage, UsageGrade.REPORTED
        # The stream broke off: what was reported at its start stands, what came since is estimated.
        output = max(facts.usage.output_tokens, known.estimated_output)
        started = facts.usage.input_tokens or known.estimated_input
        return replace(facts.usage, input_tokens=started, output_tokens=output), UsageGrade.ESTIMATED
    if known.status >= 400 or (facts is not None and _turned_away(facts)):
        return NOTHING, None
    if (
        known.background
        or (not known.stream and (facts is None or not facts.complete))
        or (facts is not None and facts.unread and not known.estimated_output)
    ):
        # A whole reply whose end did not come, or that could not be read, is billed for all that it has:
        # who leaves before its last byte has all of the answer.
        return Usage(input_tokens=known.hold_input, output_tokens=known.hold_output), UsageGrade.ASSUMED
    return Usage(
        input_tokens=known.estimated_input, output_tokens=known.estimated_output
    ), UsageGrade.ESTIMATED


def _turned_away(facts: ReplyFacts) -> bool:
    """A reply of status 200 that is a refusal, before a token was computed; or an error and nothing else.

    Of a stream that has only begun it is not known what was done for it, unless its error says so. A prompt
    that was filtered out may have been read and billed, as Azure does.
    """
    error = facts.error
    if error is None or facts.output_text_bytes or facts.tool_names:
        return False
    alone = facts.complete and not facts.chunks and not facts.finish_reasons
    return error.error_class in _REFUSALS or (alone and error.error_class != "content_filter")


def _without_reply(known: Known) -> tuple[Usage, UsageGrade]:
    if known.stream:
        # Providers stop a stream when its reader leaves: the prompt was read, little else was done.
        return Usage(input_tokens=known.estimated_input), UsageGrade.ESTIMATED
    # A whole reply that nobody waited for is finished and billed all the same.
    return Usage(input_tokens=known.hold_input, output_tokens=known.hold_output), UsageGrade.ASSUMED


def quote_for(requested: Quote, answered: Quote | None) -> Quote:
    """The price of a reply: the answering model's where it is known, else the dearer one.

    A price that the user configured for the model asked for stands in any case.
    """
    if answered is None or requested.grade is PriceGrade.CONFIGURED:
        return requested
    if answered.grade is not PriceGrade.PRIOR:
        return answered
    if requested.grade is not PriceGrade.PRIOR:
        return requested
    return max(requested, answered, key=lambda quote: quote.price.input + quote.price.output)


def output_hold(max_output_tokens: int | None, choices: int, quote: Quote) -> int:
    """Output tokens that a call may produce: its own cap, else the smaller of the model's and ours."""
    cap = max_output_tokens
    if cap is None:
        cap = min(quote.max_output_tokens or DEFAULT_OUTPUT_HOLD, DEFAULT_OUTPUT_HOLD)
    return min(cap * max(1, choices), MOST_HELD)


class Cost(NamedTuple):
    """What an attempt costs, in pico-USD."""

    list_pico: int
    """Its tokens at the list price of the standard service tier."""
    effective_pico: int
    """What is really owed: at the tier that served it, with fees that are not for tokens (web searches)."""


def tier_of(facts: RequestFacts) -> str:
    """The service tier that a request asks for; empty where it leaves that to its provider."""
    tier = facts.attributes.get("service_tier")
    return tier if isinstance(tier, str) else ""


def hold_of(input_tokens: int, output_tokens: int, quote: Quote, service_tier: str = "") -> int:
    """What a call may cost at most, in pico-USD: its hold.

    Args:
        input_tokens: that it has.
        output_tokens: that it may have.
        quote: of its model.
        service_tier: that it asks for.
    """
    price = quote.owed
    if (service_tier and price.service_tiers) or (
        price.context_tiers and input_tokens > price.context_tiers[0].above
    ):
        usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
        return list_cost(usage, price, service_tier=service_tier)
    return input_tokens * price.input + output_tokens * price.output + price.per_request


def cost_of(usage: Usage, quote: Quote, service_tier: str) -> Cost:
    """What ``usage`` costs."""
    standard = list_cost(usage, quote.price)
    if quote.measured is not None:
        return Cost(standard, list_cost(usage, quote.measured))
    owed = list_cost(usage, quote.price, service_tier=service_tier) if service_tier else standard
    return Cost(standard - search_cost(usage, quote.price) if usage.web_searches else standard, owed)


_APART = frozenset(
    {
        *("audio_input", "audio_output", "cache_read_audio", "image_input", "image_output"),
        *("per_request", "per_search"),
    }
)


def charges_of(usage: Usage, quote: Quote, service_tier: str) -> Charges:
    """What of :func:`cost_of` is not for tokens of text, line by line; the rest of it is for those."""
    price = quote.elsewhere or quote.price
    listed = {part.name: part for part in cost_parts(usage, price)}
    if quote.measured is not None:
        owed = {part.name: part for part in cost_parts(usage, quote.measured)}
    elif service_tier:
        owed = {part.name: part for part in cost_parts(usage, price, service_tier=service_tier)}
    else:
        owed = listed
    charges: Charges = {}
    for name in (*listed, *(owed.keys() - listed.keys())):
        if name in _APART:
            # At list price a call has no fees for searches: `cost_of`.
            at_list = listed[name].cost if name in listed and name != "per_search" else 0
            quantity = (listed.get(name) or owed[name]).quantity
            charges[name] = (quantity, at_list, owed[name].cost if name in owed else 0)
    if usage.web_searches and "per_search" not in charges:
        charges["per_search"] = (usage.web_searches, 0, 0)
    if quote.elsewhere is not None:
        here = cost_of(usage, quote, service_tier)
        there = cost_of(usage, replace(quote, price=price), service_tier)
        more = here.list_pico - there.list_pico, here.effective_pico - there.effective_pico
        charges[REGION] = (usage.input_tokens + usage.output_tokens, *more)
    return charges


def is_priced_by_stand_in(usage: Usage, quote: Quote) -> bool:
    """Whether something was charged as if it were text, or not at all, for want of a price of its own."""
    unstated = quote.unstated
    return bool(unstated) and (
        (usage.image_output_tokens > 0 and "image_output" in unstated)
        or (usage.image_input_tokens > 0 and "image_input" in unstated)
        or (usage.audio_output_tokens > 0 and "audio_output" in unstated)
        or (usage.audio_input_tokens > 0 and "audio_input" in unstated)
        or (usage.web_searches > 0 and "per_search" in unstated)
    )
