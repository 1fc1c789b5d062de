"""What the region does to a price: where a call is processed, and what its provider charges for that.

A region is told by the reply, else by the request, the model's name, the configuration or the address
of the upstream. Many providers charge the same everywhere, some more for a promise about the place.
:data:`FACTS` says who does, with source and day; the surcharges of single models are in the price table
(``g``), and models that have a price of their own in a region are rows of it.

A surcharge that nobody states is never nothing: where a provider charges for regions and this one is not
known, the dearest surcharge that is known of it is charged, and the price is graded ``prior``.
"""

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from collector.domain.price import PERMILLE, TokenPrice
from collector.patterns import expression
from collector.pricing.names import candidates, normal, provider_id

GLOBAL = "global"
"""Wherever the provider likes: the price list's own rates."""
ANYWHERE = "*"
"""In a model's surcharges: every region but :data:`GLOBAL`."""
NOT_SAID = frozenset({"", "not_available", "unknown", "none"})
MOST_NAME = 64


class Fact(NamedTuple):
    """How one provider charges for regions."""

    regions: frozenset[str]
    """Those that it names."""
    zones: bool
    """Whether names of data centres (``us-east5``, ``eu-west-1``) are regions, too."""
    dearest: int
    """The dearest surcharge that is known of it, in thousandths of a price."""
    usual: int | None
    """For a known region and a model without a word on it; None: nobody can say."""
    is_one_for_all: bool
    """A model's surcharge for one region holds for every known one."""
    source: str
    read_on: str


FACTS = {
    "openai": Fact(
        # 10 % at every data residency endpoint, for models released from 2026-03-05 on.
        frozenset({"us", "eu", "au", "in", "jp", "ae"}),
        zones=False,
        dearest=1100,
        usual=PERMILLE,
        is_one_for_all=True,
        source="https://developers.openai.com/api/docs/guides/data-residency",
        read_on="2026-11-29",
    ),
    "anthropic": Fact(
        # 1.1 times for `inference_geo: us`, from Claude Opus 4.6 on; older models refuse the parameter.
        frozenset({"us"}),
        zones=False,
        dearest=1100,
        usual=PERMILLE,
        is_one_for_all=False,
        source="https://platform.claude.com/docs/en/manage-claude/data-residency",
        read_on="2026-11-29",
    ),
    "vertex": Fact(
        # 10 % at regional and multi-region endpoints, from Claude Sonnet 4.5 and Gemini 3 on.
        frozenset({"us", "eu", "apac"}),
        zones=True,
        dearest=1100,
        usual=PERMILLE,
        is_one_for_all=False,
        source="https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai",
        read_on="2026-11-29",
    ),
    "aws": Fact(
        # Names of models and inference profiles say it: `us.`, `eu.` and none are regional, `global.` is not.
        frozenset({"us", "eu", "apac", "au", "jp", "ca", "us-gov"}),
        zones=True,
        dearest=1100,
        usual=PERMILLE,
        is_one_for_all=False,
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/global-cross-region-inference.html",
        read_on="2026-11-29",
    ),
    "azure": Fact(
        # Data zones and regions have price rows of their own (`eu/gpt-5`), about 10 % above the global ones.
        frozenset({"us", "eu"}),
        zones=True,
        dearest=1100,
        usual=None,
        is_one_for_all=False,
        source="litellm's price map 1.109.1: azure/us/ and azure/eu/ beside azure/",
        read_on="2026-11-22",
    ),
    "together": Fact(
        # One and a quarter at us-api and ca-api, for every serverless model.
        frozenset({"us", "ca"}),
        zones=False,
        dearest=1250,
        usual=1250,
        is_one_for_all=True,
        source="https://docs.together.ai/docs/serverless/geo-specific-inference",
        read_on="2026-11-29",
    ),
}
"""By the provider's id in the price table. Who is not here charges the same everywhere, as far as we know."""


class Surcharge(NamedTuple):
    """What a region does to a price."""

    permille: int
    """Of the price list's own rates."""
    is_known: bool
    why: str


NOTHING_MORE = Surcharge(PERMILLE, True, "")

_ZONE = expression(
    r"(?:us-gov|us|eu|europe|ap|asia|australia|ca|northamerica|sa|southamerica|me|af|africa|il|mx)"
    r"-(?:[a-z]+-?\d{1,2})|(?:[a-z]+(?:us|europe|asia|india|uk|canada|japan|australia|africa)\d?)"
    r"|(?:sweden|france|germany|italy|spain|poland|norway|switzerland|uk|japan|korea|india|canada|brazil"
    r"|australia|uae|southafrica)[a-z]+\d?"
)
_GEOGRAPHIES = (
    ("us-gov", "us-gov"), ("us-", "us"), ("eu-", "eu"), ("europe-", "eu"), ("ap-", "apac"), ("asia-", "apac"),
    ("australia-", "apac"), ("ca-", "ca"),
)  # fmt: skip
_HOSTS = (
    expression(r"([a-z]{2})\.api\.openai\.com"),
    expression(r"([a-z0-9-]+)-aiplatform\.googleapis\.com"),
    expression(r"aiplatform\.([a-z]+)\.rep\.googleapis\.com"),
    expression(r"bedrock(?:-runtime|-mantle)?(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com|api\.aws)"),
    expression(r"([a-z]{2})-api\.together\.(?:ai|xyz)"),
)
_GLOBAL_HOSTS = frozenset({"aiplatform.googleapis.com"})
_PROFILE = expression(r"(us-gov|global|apac|us|eu|au|jp|ca)\.[a-z]")
_PLACED = expression(r"(?:azure/|bedrock/)?(us-gov-[a-z]+-\d|us-gov|global-standard|global|us|eu|apac)/")


def region_name(said: object) -> str:
    """A region as we write it; empty where nothing, or nothing of use, was said."""
    name = said.strip().lower()[:MOST_NAME] if isinstance(said, str) else ""
    return "" if name in NOT_SAID else name


def geography(region: str) -> str:
    """What a data centre lies in, as prices speak of it: ``us-east5`` is in ``us``."""
    return next((area for start, area in _GEOGRAPHIES if region.startswith(start)), region)


@lru_cache(maxsize=256)
def region_of_address(url: str) -> str:
    """The region that an upstream's address names; empty for none."""
    host = urlsplit(url).hostname or ""
    if host in _GLOBAL_HOSTS:
        return GLOBAL
    return next((found[1] for pattern in _HOSTS if (found := pattern.fullmatch(host))), "")


def region_of_model(provider: str, model: str) -> str:
    """The region that a model's own name speaks of (``eu.anthropic.``, ``us/gpt-5``); empty for none."""
    name = model.lower()
    if provider == "aws":
        name = name.rpartition("inference-profile/")[2]
    found = _PROFILE.match(name) if provider == "aws" else None
    found = found or (_PLACED.match(name) if provider in ("aws", "azure") else None)
    return found[1].removesuffix("-standard") if found else ""


@lru_cache(maxsize=1024)
def is_same_elsewhere(provider: str, model: str, answered: str) -> bool:
    """Whether ``answered`` is ``model``, less the region that its name speaks of.

    Bedrock's InvokeModel answers ``global.anthropic.claude-opus-4-8`` as ``claude-opus-4-8``: the price is
    that of the place which was asked for.
    """
    if not region_of_model(provider_id(provider), model):
        return False
    names = candidates(model)
    return normal(answered) in (*names.literal, *names.family)


def names_in(region: str, name: str) -> tuple[str, ...]:
    """How a price list may call the model ``name`` where it has a price of its own in ``region``."""
    places = dict.fromkeys((region, geography(region)))
    return tuple(written for place in places for written in (f"{place}/{name}", f"{place}.{name}"))


def surcharge(provider: str, price: TokenPrice, region: str) -> Surcharge:
    """What ``provider`` (its id in the price table) charges for ``region`` beside ``price``."""
    if region in ("", GLOBAL):
        return NOTHING_MORE
    fact, terms = FACTS.get(provider), dict(price.regional_permille)
    for name in (region, geography(region)):
        if name in terms:
            return Surcharge(terms[name], True, f"{provider} charges x {terms[name] / PERMILLE:g} in {name}")
    if fact is None and not terms:
        return Surcharge(PERMILLE, True, f"no price of {provider} is known to depend on the region")
    dearest = max([*terms.values(), *([fact.dearest] if fact and not terms else [])])
    if fact is not None and _is_known(fact, region):
        if not terms and fact.usual is not None:
            said = f"x {fact.usual / PERMILLE:g}" if fact.usual != PERMILLE else "no more"
            return Surcharge(fact.usual, True, f"{provider} charges {said} for this model in {region}")
        if ANYWHERE in terms or (terms and fact.is_one_for_all):
            return Surcharge(dearest, True, f"{provider} charges x {dearest / PERMILLE:g} in {region}")
    return Surcharge(
        dearest,
        False,
        f"what {provider} charges in {region} is not known: its dearest surcharge stands in, "
        f"x {dearest / PERMILLE:g}",
    )


def _is_known(fact: Fact, region: str) -> bool:
    return region in fact.regions or (fact.zones and _ZONE.fullmatch(region) is not None)
