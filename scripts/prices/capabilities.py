"""Make the table of what models can do from litellm's price file.

    python scripts/prices/capabilities.py [--litellm FILE --litellm-version VERSION] [--out FILE] [--date DAY]

Without options it reads the file of the installed litellm, as ``build.py`` beside it does. What the
file does not say a model can do, it cannot: a downgrade that is not made costs a little money, one
that loses a capability costs the call.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from build import installed_litellm, read_json

from collector.pricing.names import SELF_HOSTED, normal, provider_id
from sidecar.budgets.capabilities import (
    TABLE_PATH,
    UNKNOWN_CONTEXT,
    UNKNOWN_OUTPUT,
    Capabilities,
    write_table,
)

FLAGS = {
    "supports_function_calling": "tools",
    "supports_vision": "images",
    "supports_pdf_input": "documents",
    "supports_audio_input": "audio",
    "supports_audio_output": "audio_output",
    "supports_response_schema": "json_schema",
    "supports_reasoning": "reasoning",
    "supports_web_search": "hosted_tools",
    "supports_computer_use": "hosted_tools",
    "supports_assistant_prefill": "prefill",
    "supports_adaptive_thinking": "adaptive_thinking",
}
ENDPOINTS = {
    "/v1/chat/completions": "openai.chat",
    "/v1/completions": "openai.completions",
    "/v1/responses": "openai.responses",
    "/v1/messages": "anthropic.messages",
}
MODES = {"chat": "openai.chat", "completion": "openai.completions", "responses": "openai.responses"}
OPENAI = frozenset({"openai", "azure"})
USUAL_EFFORTS = frozenset({"low", "medium", "high"})
EXTRA_EFFORTS = ("none", "minimal", "xhigh", "max")
# OpenAI's reasoning models take neither temperature, penalties and stop nor max_tokens
# (https://platform.openai.com/docs/guides/reasoning); neither does litellm's file say so.
OPENAI_REASONING = re.compile(r"(?:^|/)(?:o\d|gpt-[5-9])")


def read_models(entries: Mapping[str, Any]) -> dict[tuple[str, str], Capabilities]:
    """The models of litellm's price map that write text, by provider id and lower-case name."""
    models = {}
    for key, entry in entries.items():
        if not isinstance(entry, dict) or not entry.get("litellm_provider") or entry.get("mode") not in MODES:
            continue
        provider = provider_id(str(entry["litellm_provider"]))
        if provider in SELF_HOSTED:
            continue
        head, slash, rest = key.partition("/")
        name = normal(rest if slash and provider_id(head) == provider else key)
        models[provider, name] = read_entry(provider, name, entry)
    return models


def read_entry(provider: str, name: str, entry: Mapping[str, Any]) -> Capabilities:
    """What one entry says."""
    can = {ability for flag, ability in FLAGS.items() if entry.get(flag) is True}
    modalities = entry.get("supported_modalities")
    if isinstance(modalities, list) and "audio" in modalities:
        can.add("audio")
    reasons = "reasoning" in can
    restricted = bool(reasons and OPENAI_REASONING.search(name))
    if not restricted:
        can.add("max_tokens")
        if entry.get("supports_sampling_params") is not False:
            can.add("sampling")
        if provider in OPENAI:
            can.add("log_probabilities")
    if (
        "claude" in name
        and reasons
        and ("adaptive_thinking" not in can or entry.get("supports_legacy_thinking") is True)
    ):
        can.add("budget_thinking")
    return Capabilities(
        context_tokens=whole(entry.get("max_input_tokens")) or UNKNOWN_CONTEXT,
        max_output_tokens=whole(entry.get("max_output_tokens")) or UNKNOWN_OUTPUT,
        abilities=frozenset(can),
        apis=frozenset(apis_of(provider, name, entry)),
        efforts=frozenset(efforts_of(name, entry) if reasons else ()),
    )


def apis_of(provider: str, name: str, entry: Mapping[str, Any]) -> set[str]:
    """The dialects in which a model is served."""
    endpoints = {ENDPOINTS[path] for path in entry.get("supported_endpoints") or () if path in ENDPOINTS}
    if endpoints:
        return endpoints
    if provider == "anthropic":
        return {"anthropic.messages"}
    if provider in OPENAI and entry["mode"] == "chat":
        return {"openai.chat", "openai.responses"}
    return {MODES[entry["mode"]]}


def efforts_of(name: str, entry: Mapping[str, Any]) -> set[str]:
    """The levels of effort that a reasoning model takes; none for a Claude without that parameter."""
    levels = entry.get("reasoning_effort_levels")
    if isinstance(levels, list):
        return {str(level) for level in levels}
    if "claude" in name and entry.get("supports_output_config") is not True:
        return set()
    extra = {level for level in EXTRA_EFFORTS if entry.get(f"supports_{level}_reasoning_effort") is True}
    return USUAL_EFFORTS | extra


def whole(value: Any) -> int:
    """A positive whole number, else 0."""
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0


def main(arguments: list[str] | None = None) -> int:
    """Build the table and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--litellm", type=Path, metavar="FILE", help="litellm's price file")
    parser.add_argument("--litellm-version", default="", help="the release that FILE came with")
    parser.add_argument("--out", type=Path, default=TABLE_PATH, metavar="FILE")
    parser.add_argument("--date", type=date.fromisoformat, default=datetime.now(UTC).date(), metavar="DAY")
    options = parser.parse_args(arguments)
    entries, version = (
        (read_json(options.litellm), options.litellm_version) if options.litellm else installed_litellm()
    )
    models = read_models(entries)
    source = {
        "name": "litellm",
        "version": version,
        "licence": "MIT",
        "url": "https://github.com/BerriAI/litellm",
    }
    write_table(models, options.out, made=options.date.isoformat(), source=source)
    sets = len(set(models.values()))
    size = options.out.stat().st_size / 1000
    sys.stdout.write(f"{options.out}: {len(models)} models, {sets} sets, {size:.0f} kB\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
