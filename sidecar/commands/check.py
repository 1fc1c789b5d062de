"""``bursar check``: is the configuration sound, and what does it mean for a model or a key?"""

import argparse
import os
import sys
import time
from decimal import Decimal
from pathlib import Path

from collector.domain.money import usd
from collector.domain.policy.wording import amount_text
from collector.pricing.book import PriceBook
from collector.pricing.explain import format_explanation
from collector.pricing.regions import region_name
from collector.settings import unknown_overrides
from sidecar.commands.process import (
    LACKS_A_KEY,
    checked_config,
    key_for,
    not_writable,
    unenforced,
    uses_virtual_keys,
)
from sidecar.config import OTHER_VARIABLES, BursarConfig, UpstreamConfig
from sidecar.interpreter import interpreter, optimised
from sidecar.keys import KeyRing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to explain."""
    parser.add_argument("--model", help="show where calls for this model go and what they cost")
    parser.add_argument(
        "--price", metavar="MODEL", help="show every price known for a model, the choice, and why"
    )
    parser.add_argument(
        "--provider", default="", help="whose price to explain (default: the model's own provider)"
    )
    parser.add_argument(
        "--region", default="", help="where it is asked for, such as eu or us-east5 (with --price or --model)"
    )
    parser.add_argument("--key", metavar="ID", help="show what a virtual key fixes")
    parser.add_argument(
        "--from-litellm",
        type=Path,
        metavar="FILE",
        help="print a LiteLLM proxy's configuration as one of ours, and what could not be carried over",
    )


def run(arguments: argparse.Namespace) -> int:
    """Validate, then explain what was asked for."""
    if arguments.from_litellm:
        return print_converted(arguments.from_litellm)
    config = checked_config(arguments.config)
    prices = PriceBook.load(config.prices)
    for problem in unknown_overrides(BursarConfig, os.environ, OTHER_VARIABLES):
        sys.stderr.write(f"warning: {problem}\n")
    warnings = [*unenforced(config), *prices.warnings]
    virtual_keys = uses_virtual_keys(config)
    warnings += [
        f"upstreams.{name}.api_key: is not set; callers use virtual keys, which are not passed on"
        for name, upstream in config.upstreams.items()
        if key_for(upstream, virtual_keys=virtual_keys) == LACKS_A_KEY
    ]
    if unwritable := not_writable(config.data_dir):
        warnings.append(f"data_dir: {unwritable}")
    for warning in warnings:
        sys.stderr.write(f"warning: {warning}\n")
    if arguments.price:
        region = region_name(arguments.region)
        explained = prices.explain(arguments.price, arguments.provider, time.time_ns() // 1000, region)
        sys.stdout.writelines(f"{line}\n" for line in format_explanation(explained))
        return 0
    if arguments.key:
        return explain_key(config, arguments.key)
    if arguments.model:
        return explain_model(config, prices, arguments.model, region_name(arguments.region))
    if not optimised():
        sys.stderr.write(f"warning: {interpreter()}: a call costs about a fifth more of a processor\n")
    sys.stdout.write("The configuration is valid.\n")
    for name, upstream in config.upstreams.items():
        provider = upstream.provider_of(name)
        where = f" in {upstream.where}" if upstream.where else ""
        sys.stdout.write(
            f"  upstream {name}: {provider}{where}, {', '.join(upstream.urls) or upstream.kind}\n"
        )
        sys.stdout.write(f"    {pool_text(upstream)}\n")
    for model, target in config.models.items():
        sys.stdout.write(
            f"  model {model}: goes to {target.upstream}{f' as {target.model}' if target.model else ''}\n"
        )
    for fallback in config.fallbacks:
        reasons = ", ".join(fallback.on)
        sys.stdout.write(f"  fallback {', '.join(fallback.from_)}: {', '.join(fallback.to)} on {reasons}\n")
    for budget in config.budgets:
        limit = amount_text(budget.limit.unit, budget.limit.amount)
        rule = budget.budget()
        wanted = [f"{name}={'|'.join(values)}" for name, values in rule.match.wanted]
        matches = ", ".join(wanted) or "every call"
        each = f", for each {budget.each}" if budget.each else ""
        sys.stdout.write(f"  budget {budget.name}: {limit} ({budget.window}) for {matches}{each}\n")
    sys.stdout.write(f"  prices: {prices.version}\n")
    sys.stdout.write(f"  data: {config.data_dir.resolve()}\n")
    return 0


def print_converted(path: Path) -> int:
    """A LiteLLM configuration as ours on standard output; in short what it lacks, on standard error."""
    from sidecar.migration.litellm_config import convert

    converted = convert(path)
    sys.stdout.write(converted.text())
    models = len(converted.models.models)
    sys.stderr.write(
        f"{models} models at {len(converted.models.upstreams)} upstreams; "
        f"{len(converted.notes)} things to look at are named at the head of the file\n"
    )
    return 0


def pool_text(upstream: UpstreamConfig) -> str:
    """How an upstream's replicas share its calls, in a line."""
    said = [f"{upstream.connection_limit} connections each, {upstream.queue} calls may wait"]
    if len(upstream.urls) > 1:
        said.append(f"balance {upstream.balance}")
        if upstream.weights:
            said.append(f"weights {':'.join(map(str, upstream.weights))}")
    retries = upstream.retry_limit
    said.append(f"{retries} {'retry' if retries == 1 else 'retries'}" if retries else "no retries")
    if upstream.hedge:
        said.append(f"hedged after {float(upstream.hedge):g} s")
    if upstream.health_path:
        said.append(f"health {upstream.health_path}")
    return ", ".join(said)


def explain_key(config: BursarConfig, key_id: str) -> int:
    """What a key fixes."""
    for key in KeyRing(config.data_dir):
        if key.id == key_id:
            state = "valid" if key.is_valid(time.time()) else "no longer valid"
            sys.stdout.write(f"{key.id} ({key.name or 'no name'}) is {state}\n")
            for field in ("tenant", "team", "user", "agent"):
                sys.stdout.write(f"  {field}: {getattr(key, field) or 'whatever the call says'}\n")
            sys.stdout.write(f"  models: {', '.join(key.models) or 'all'}\n")
            return 0
    sys.stderr.write(f"no key has the id {key_id!r}\n")
    return 1


def explain_model(config: BursarConfig, prices: PriceBook, model: str, region: str = "") -> int:
    """Where calls for a model go, and what a million of its tokens cost there (or in ``region``)."""
    target = config.models.get(model)
    names = [target.upstream] if target else list(config.upstreams)
    for name in names:
        upstream = config.upstreams[name]
        provider = upstream.provider_of(name)
        quote = prices.quote(
            provider,
            target.model if target and target.model else model,
            time.time_ns() // 1000,
            region or upstream.where,
        )
        rates = {
            "input": quote.price.input,
            "output": quote.price.output,
            "cache read": quote.price.cache_read,
        }
        where = f" in {quote.region}" if quote.region else ""
        sys.stdout.write(
            f"{model} at {name} ({provider}{where}): priced as {quote.model}, {quote.grade}, {quote.source}\n"
        )
        if quote.surcharge.why:
            sys.stdout.write(f"  {quote.surcharge.why}\n")
        for label, pico in rates.items():
            sys.stdout.write(f"  {label}: {usd(pico) * Decimal(10**6):f} USD per million tokens\n")
    return 0
