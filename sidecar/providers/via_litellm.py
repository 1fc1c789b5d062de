"""litellm, at its only home: a chat or an embedding in OpenAI's words in, any provider's answer out.

This runs in a process of its own (:mod:`sidecar.providers.litellm_worker`), for importing it takes
seconds and 160 MiB. It is told everything by explicit arguments: what a request may say is listed
here, credentials come from the configuration, and litellm's own settings, its retries, its
callbacks and its look into the environment are off. What was used is what the provider's own
bytes say (:mod:`sidecar.providers.tap`); where it said nothing, neither do we.
"""

import os
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

from sidecar.providers import tap as taps
from sidecar.providers.litellm_settings import Account
from sidecar.providers.tap import Tap
from sidecar.wire import ReplyFacts
from sidecar.wire.translate.usage import chat_usage

CHAT_FIELDS: Final = frozenset(
    {
        "messages", "temperature", "top_p", "n", "stop", "max_tokens", "max_completion_tokens",
        "presence_penalty", "frequency_penalty", "logit_bias", "user", "response_format", "seed", "tools",
        "tool_choice", "parallel_tool_calls", "functions", "function_call", "logprobs", "top_logprobs",
        "reasoning_effort", "thinking", "verbosity", "modalities", "prediction", "audio", "service_tier",
        "safety_identifier", "prompt_cache_key",
    }
)  # fmt: skip
"""What a chat may say to a provider. ``model`` and ``stream`` besides."""
OURS: Final = frozenset({"model", "stream", "stream_options", "metadata", "store"})
"""Read by the sidecar, or of no meaning to anybody but OpenAI."""
EMBEDDING_FIELDS: Final = frozenset({"input", "dimensions", "encoding_format", "user"})


class Failure(Exception):
    """The provider, or litellm on its behalf, refused; ``status`` and ``headers`` are the provider's."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.headers = headers or {}


class BrokenOff(Exception):
    """The provider was asked and did not answer to the end: what it did, nobody knows."""


class Answer(NamedTuple):
    """A provider's answer: a whole body, or chunks that still come."""

    body: dict[str, Any]
    chunks: AsyncIterator[dict[str, Any]] | None
    headers: dict[str, str]


def load() -> str:
    """Import litellm and turn off what it would do on its own; its version.

    Raises:
        ImportError: it is not installed here.
    """
    # Read when it is imported: no price list and no tokenizer is fetched.
    os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    import importlib.metadata
    import logging

    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.disable_hf_tokenizer_download = True
    litellm.disable_aiohttp_transport = True  # The tap hangs on httpx.
    litellm.callbacks = litellm.success_callback = litellm.failure_callback = []
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "httpx", "openai", "botocore"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # They write requests, keys and all.
    taps.install()
    return importlib.metadata.version("litellm")


def knows(provider: str) -> bool:
    """Whether litellm has a provider of this name."""
    import litellm

    return provider in {str(getattr(known, "value", known)) for known in litellm.provider_list}


async def chat(account: Account, asked: dict[str, Any], timeout_s: float, tap: Tap) -> Answer:
    """Ask for a chat completion.

    Raises:
        Failure: the provider refused, or what was asked cannot be said to it.
        BrokenOff: it was asked and did not answer.
    """
    import litellm

    _check(asked, CHAT_FIELDS, account)
    stream = asked.get("stream") is True
    said = asked.get
    try:
        reply = await litellm.acompletion(
            model=f"{account.provider}/{asked['model']}",
            messages=said("messages"),
            stream=stream,
            stream_options={"include_usage": True} if stream else None,
            temperature=said("temperature"),
            top_p=said("top_p"),
            n=said("n"),
            stop=said("stop"),
            max_tokens=said("max_tokens"),
            max_completion_tokens=said("max_completion_tokens"),
            presence_penalty=said("presence_penalty"),
            frequency_penalty=said("frequency_penalty"),
            logit_bias=said("logit_bias"),
            user=said("user"),
            response_format=said("response_format"),
            seed=said("seed"),
            tools=said("tools"),
            tool_choice=said("tool_choice"),
            parallel_tool_calls=said("parallel_tool_calls"),
            functions=said("functions"),
            function_call=said("function_call"),
            logprobs=said("logprobs"),
            top_logprobs=said("top_logprobs"),
            reasoning_effort=said("reasoning_effort"),
            thinking=said("thinking"),
            verbosity=said("verbosity"),
            modalities=said("modalities"),
            prediction=said("prediction"),
            audio=said("audio"),
            service_tier=said("service_tier"),
            safety_identifier=said("safety_identifier"),
            prompt_cache_key=said("prompt_cache_key"),
            api_key=account.api_key or None,
            api_base=account.base_url or None,
            api_version=account.api_version or None,
            organization=account.organization or None,
            extra_headers=account.headers or None,
            aws_access_key_id=account.aws_access_key_id or None,
            aws_secret_access_key=account.aws_secret_access_key or None,
            aws_session_token=account.aws_session_token or None,
            aws_region_name=account.aws_region_name or None,
            aws_profile_name=account.aws_profile_name or None,
            aws_role_name=account.aws_role_name or None,
            aws_session_name=account.aws_session_name or None,
            aws_bedrock_runtime_endpoint=(account.base_url or None)
            if "bedrock" in account.provider
            else None,
            vertex_project=account.vertex_project or None,
            vertex_location=account.vertex_location or None,
            vertex_credentials=account.vertex_credentials or None,
            azure_ad_token=account.azure_ad_token or None,
            tenant_id=account.tenant_id or None,
            client_id=account.client_id or None,
            client_secret=account.client_secret or None,
            project_id=account.project_id or None,
            timeout=timeout_s,
            max_retries=0,
            num_retries=0,
            drop_params=account.drop_params,
        )
    except Exception as error:
        raise _failure(error, tap) from error
    headers = passed_on(tap)
    if stream:
        return Answer({}, _chunks(reply, tap, str(asked["model"])), headers)
    return Answer(_whole(reply, tap), None, headers)


async def embeddings(account: Account, asked: dict[str, Any], timeout_s: float, tap: Tap) -> Answer:
    """Ask for embeddings.

    Raises:
        Failure, BrokenOff: as :func:`chat`.
    """
    import litellm

    _check(asked, EMBEDDING_FIELDS, account)
    try:
        reply = await litellm.aembedding(
            model=f"{account.provider}/{asked['model']}",
            input=asked.get("input"),
            dimensions=asked.get("dimensions"),
            encoding_format=asked.get("encoding_format"),
            user=asked.get("user"),
            api_key=account.api_key or None,
            api_base=account.base_url or None,
            api_version=account.api_version or None,
            extra_headers=account.headers or None,
            aws_access_key_id=account.aws_access_key_id or None,
            aws_secret_access_key=account.aws_secret_access_key or None,
            aws_session_token=account.aws_session_token or None,
            aws_region_name=account.aws_region_name or None,
            aws_profile_name=account.aws_profile_name or None,
            aws_role_name=account.aws_role_name or None,
            aws_session_name=account.aws_session_name or None,
            vertex_project=account.vertex_project or None,
            vertex_location=account.vertex_location or None,
            vertex_credentials=account.vertex_credentials or None,
            azure_ad_token=account.azure_ad_token or None,
            project_id=account.project_id or None,
            timeout=timeout_s,
            max_retries=0,
            drop_params=account.drop_params,
        )
    except Exception as error:
        raise _failure(error, tap) from error
    body = reply.model_dump(exclude_none=True)
    facts = tap.facts()
    told = {
        "object": "list",
        "data": body.get("data", []),
        "model": facts.response_model or body.get("model") or asked["model"],
    }
    return Answer(_with_usage(told, facts), None, passed_on(tap))


def _check(asked: dict[str, Any], allowed: frozenset[str], account: Account) -> None:
    if not knows(account.provider):
        raise Failure(400, f"litellm knows no provider {account.provider!r}", code="unknown_provider")
    for name in asked:
        if name not in allowed and name not in OURS:
            message = f"{name} cannot be sent to {account.provider} through litellm"
            raise Failure(400, message, code="unsupported_parameter")


# -- what came back


def _whole(reply: Any, tap: Tap) -> dict[str, Any]:
    body = reply.model_dump(exclude_none=True)
    facts = tap.facts()
    for choice in body.get("choices", []):
        choice.pop("provider_specific_fields", None)
        message = choice.get("message")
        if isinstance(message, dict):
            message.setdefault("content", None)
            _without_extras(message)
    named = {
        "id": facts.response_id or body.get("id", ""),
        "object": "chat.completion",
        "created": body.get("created", 0),
        "model": facts.response_model or body.get("model", ""),
        "choices": body.get("choices", []),
    }
    return _with_usage(named, facts)


async def _chunks(reply: Any, tap: Tap, model: str) -> AsyncIterator[dict[str, Any]]:
    """The chunks of a stream; the last says what was used, if the provider did.

    Raises:
        Failure: the provider failed in mid-stream, and said so.
        BrokenOff: it broke off.
    """
    named: dict[str, Any] = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": model}
    try:
        async for chunk in reply:
            body = chunk.model_dump(exclude_none=True)
            if not named["id"]:
                facts = tap.facts()
                named["id"] = facts.response_id or body.get("id", "")
                named["created"] = body.get("created", 0)
                named["model"] = facts.response_model or body.get("model") or model
            choices = body.get("choices") or []
            for choice in choices:
                choice.pop("provider_specific_fields", None)
                _without_extras(choice.setdefault("delta", {}))
                choice.setdefault("finish_reason", None)
            if choices:
                yield {**named, "choices": choices}
    except Exception as error:
        broken: Exception | None = error
    else:
        broken = None
    facts = tap.facts()
    if facts.usage is not None:
        yield _with_usage({**named, "choices": []}, facts)
    if broken is not None or facts.error is not None:
        raise _failure(broken, tap) from broken


_EXTRAS: Final = ("provider_specific_fields", "citations", "images", "audio_url")


def _without_extras(message: dict[str, Any]) -> None:
    for name in _EXTRAS:
        message.pop(name, None)
    for call in message.get("tool_calls") or ():
        if isinstance(call, dict):
            call.pop("provider_specific_fields", None)


def _with_usage(body: dict[str, Any], facts: ReplyFacts) -> dict[str, Any]:
    """``body`` with what the provider itself reported; without any usage where it did not."""
    if facts.usage is not None:
        body["usage"] = chat_usage(facts.usage)
    if facts.service_tier:
        body["service_tier"] = facts.service_tier
    if facts.system_fingerprint:
        body["system_fingerprint"] = facts.system_fingerprint
    return body


_PASSED_ON: Final = ("retry-after", "retry-after-ms", "x-request-id", "request-id", "x-amzn-requestid")
_PASSED_PREFIXES: Final = ("x-ratelimit-", "anthropic-ratelimit-")


def passed_on(tap: Tap) -> dict[str, str]:
    """The provider's own headers that callers go by: limits, when to try again, which request it was."""
    return {
        name: value.decode("latin-1")
        for raw, value in tap.headers
        if (name := raw.decode("latin-1")) in _PASSED_ON or name.startswith(_PASSED_PREFIXES)
    }


def _failure(error: Exception | None, tap: Tap) -> Exception:
    """What went wrong: the provider's own word where it gave one, else litellm's."""
    facts = tap.facts()
    told = facts.error
    if tap.status >= 400 or told is not None:
        status = tap.status if tap.status >= 400 else 502
        message = tap.message or (told.message if told else "") or f"HTTP {status}"
        kind = (told.type if told else "") or (told.error_class if told else "api_error")
        code = (told.code if told else "") or (told.error_class if told else "")
        return Failure(status, message, kind=kind, code=code, headers=passed_on(tap))
    if tap.asked:
        return BrokenOff(_cause_of(error))
    said = getattr(error, "status_code", None)
    refused = isinstance(said, int) and 400 <= said < 500
    message = str(getattr(error, "message", "") or error).split("\nTraceback", 1)[0]
    message = message.removeprefix("litellm.").split("Received Model Group", 1)[0].strip()[:1000]
    if refused:
        return Failure(int(said or 400), message, code="litellm")
    return Failure(502, message, kind="api_error", code="litellm_failed")


def _cause_of(error: BaseException | None) -> str:
    """What made litellm give up on a reply, for our log: its text only where it cannot be the provider's."""
    while error is not None and (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    told = f": {error}" if isinstance(error, AttributeError | KeyError | TypeError) else ""
    return f"{type(error).__name__}{told}"[:200]
