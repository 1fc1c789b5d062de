"""What people call a model, and which row of the price table they mean.

One model has many names: with a date, with the provider in front, with a region, as
a path, as an ARN. :func:`candidates` lists the names that a written one may stand for,
most literal first; the price book looks them up in that order, so a listed name
always wins over a guess.
"""

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote

from collector.patterns import expression

# Left: what callers, OpenTelemetry (gen_ai.provider.name), litellm and Bursar's own upstream
# kinds say. Right: the provider's id in the price table, which is genai-prices' where it has one.
_ALIASES = {
    "aws.bedrock": "aws",
    "aws_bedrock": "aws",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "bedrock_mantle": "aws",
    "amazon": "aws",
    "amazon_nova": "aws",
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "azure_ai": "azure",
    "azure_openai": "azure",
    "azure_text": "azure",
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "chatgpt": "openai",
    "text-completion-openai": "openai",
    "gemini": "google",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "googleai": "google",
    "google_genai": "google",
    "google-gla": "google",
    "gcp.vertex_ai": "vertex",
    "vertex_ai": "vertex",
    "google-vertex": "vertex",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "codestral": "mistral",
    "text-completion-codestral": "mistral",
    "x_ai": "x-ai",
    "xai": "x-ai",
    "cohere_chat": "cohere",
    "moonshot": "moonshotai",
    "moonshot_ai": "moonshotai",
    "voyage": "voyageai",
    "voyage_ai": "voyageai",
    "together_ai": "together",
    "together-ai": "together",
    "togetherai": "together",
    "fireworks_ai": "fireworks",
    "fireworks-ai": "fireworks",
    "perplexity_ai": "perplexity",
    "cloudflare_workers": "cloudflare",
    "github_copilot": "github-copilot",
    "github": "github-copilot",
    "z.ai": "zai",
    "z_ai": "zai",
    "z-ai": "zai",
    "ibm.watsonx.ai": "watsonx",
    "ibm_watsonx": "watsonx",
    "alibaba": "dashscope",
    "meta_llama": "meta",
    "vercel": "vercel_ai_gateway",
}

SELF_HOSTED = frozenset(
    {"vllm", "sglang", "tgi", "ollama", "llamacpp", "llama_cpp", "lmstudio", "lm_studio", "local", "nim"}
)
"""Servers of one's own: nobody's price list is theirs."""

_MAKERS = tuple(
    (expression(pattern), maker)
    for pattern, maker in (
        (r"^(?:[a-z-]+\.)?(?:anthropic|amazon|meta|mistral|cohere|ai21|stability)\.", "aws"),
        (r"claude", "anthropic"),
        (
            r"^(ft:)?(gpt-(?!oss|j|neo)|chatgpt|o[1-9](-|$)|text-embedding-[a3]|text-davinci|davinci-00)",
            "openai",
        ),
        (r"^(tts-1|whisper-1|dall-e|codex-|computer-use|omni-moderation|sora-)", "openai"),
        (r"^(gemini|text-embedding-00|gemma-3n|learnlm|imagen|veo-)", "google"),
        (r"^grok", "x-ai"),
        (r"^(mistral|mixtral|ministral|codestral|devstral|magistral|pixtral|voxtral|open-mi)", "mistral"),
        (r"^(command|c4ai|embed-(english|multilingual|v4)|rerank-(v|english|multi))", "cohere"),
        (r"^deepseek", "deepseek"),
        (r"^(kimi|moonshot)", "moonshotai"),
        (r"^glm-", "zai"),
        (r"^minimax", "minimax"),
        (r"^voyage", "voyageai"),
        (r"^(sonar|r1-1776|pplx)", "perplexity"),
        (r"^(amazon\.)?(nova-(micro|lite|pro|premier|sonic|2)|titan-)", "aws"),
        (r"^(qwen(-|[23])|qwq|qvq)", "dashscope"),
        (r"^jamba", "ai21"),
    )
)

_ARN = expression(r"^arn:[a-z-]+:bedrock:[^:]*:[^:]*:[a-z-]+/")
_RESOURCE_PATH = expression(r"^(?:.*/)?(?:publishers/[^/]+/)?models/")
_REGION = expression(r"^(?:us-gov|global|regional|apac|us|eu|au|jp|ca|in|sa|af|me|il|kr|uk)\.")
_PUBLISHER = expression(
    r"^(?:anthropic|amazon|meta|mistral|cohere|ai21|deepseek|qwen|openai|google|nvidia|moonshot|moonshotai"
    r"|minimax|zai|xai|stability|writer|twelvelabs|luma)\.(?=[a-z])"
)
_COMPACT_DATE = expression(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=$|-|:)")
_VERSION = expression(
    r"(?:-v\d+)?:\d+(?::\d+k|:mm)?$|-v1$|:20\d{6}-v\d$|@(?:default|latest|\d{3,8})$"
    r"|(?<=claude-3-5-sonnet)-v2$"  # as Vertex calls its second release
)
_DATE = expression(
    r"[-@_](?:20\d{2}-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])"  # a day
    r"|(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])"  # month and day, as in gpt-4-0613
    r"|2[3-9](?:0[1-9]|1[0-2])"  # year and month, as in mistral-large-2411
    r"|00[1-9])$"  # a number, as in gemini-1.5-pro-002
)
_STAGE = expression(
    r"(?:-latest|-preview(?:-\d\d-(?:\d\d|20\d\d))?|-exp(?:-\d{2,4}(?:-\d\d)?)?|-experimental|-nightly)$"
)
_MONTH = expression(r"-(?:0[1-9]|1[0-2])-20\d{2}$|(?<=\d)\.0$")  # as in ...-preview-09-2025; claude-opus-5.0
_ROUTE = expression(r":(?:nitro|floor|online|extended|beta|exacto|thinking|free|cloud)$")
_OLLAMA_TAG = expression(r":(\d+(?:\.\d+)?[bm])(?:-[a-z0-9_-]+)?$")
_TUNED_ON_AZURE = expression(r"(?<=\.ft-).+$")
_FINE_TUNED = expression(r"^ft:[^:]+(?=:)")
_OLD_AZURE = expression(r"^gpt-35-")
_DOTTED = expression(r"(?<=\d)\.(?=\d)")
_DASHED = expression(r"(?<=[a-z]-\d)-(?=\d(?:-|$))")
_FAMILY_LAST = expression(r"^claude-(\d)(?:[.-](\d))?-(opus|sonnet|haiku)(.*)$")

MAX_NAME = 256
"""Longer names are cut: nobody lists one, and a lookup must not become work."""

MAX_SEGMENTS = 8
"""How many leading parts of a path are taken off one by one."""


def provider_id(name: str) -> str:
    """The price table's id for a provider, however it was written."""
    low = name.strip().lower()
    if low in _ALIASES:
        return _ALIASES[low]
    for prefix, known in (("vertex_ai-", "vertex"), ("fireworks_ai-", "fireworks")):
        if low.startswith(prefix):
            return known
    return low


def maker_of(name: str) -> str:
    """Who sells this model under its bare name, as a provider id; empty when the name does not say."""
    for pattern, maker in _MAKERS:
        if pattern.search(name):
            return maker
    return ""


def normal(name: str) -> str:
    """The form in which names are compared: lower case, no percent-escapes, no surrounding blanks."""
    name = name[:MAX_NAME].strip()
    if "%" in name:
        name = unquote(name)
    return name.lower()


class Names(NamedTuple):
    """Names that a written one may be listed under, most literal first, each once."""

    literal: tuple[str, ...]
    """Other spellings of the very same model."""
    family: tuple[str, ...]
    """Guesses: the model without its date, number, version or stage."""


def candidates(model: str) -> Names:
    """What ``model`` may be listed under."""
    literal = dict.fromkeys(_paths(normal(model)))
    for form in tuple(literal):
        literal.update(dict.fromkeys(_rewritten(form)))
    literal.pop("", None)
    family: dict[str, None] = {}
    for form in literal:
        for bare in (form, *_without_version(form)):
            family.update(dict.fromkeys((bare, *_without_date(bare))))
    return Names(tuple(literal), tuple(name for name in family if name and name not in literal))


def prefix_provider(model: str) -> str:
    """The provider that a path-like name puts in front (``azure/gpt-4o``), as a provider id, else empty."""
    head, slash, _ = normal(model).partition("/")
    return provider_id(head) if slash else ""


def model_of(name: str) -> str:
    """``name`` without what tells one release of a model from another: dates, versions, stages, routes."""
    for _ in range(MAX_SEGMENTS):
        for pattern in (_TUNED_ON_AZURE, _ROUTE, _VERSION, _STAGE, _MONTH, _DATE):
            if found := pattern.search(name):
                name = name[: found.start()]
                break
        else:
            break
    return name


def starts_at(name: str, start: int) -> bool:
    """Whether what ``name`` has before ``start`` is but a path, a region or a publisher."""
    if not start or name[start] in "/:":
        return True
    rest = name[name.rfind("/", 0, start) + 1 :]
    of_model = len(name) - start
    for pattern in (_REGION, _PUBLISHER):
        if len(rest) > of_model and (found := pattern.match(rest)):
            rest = rest[found.end() :]
    return len(rest) == of_model


def _paths(name: str) -> Iterator[str]:
    yield name
    if arn := _ARN.match(name):
        name = name[arn.end() :]
        yield name
    if resource := _RESOURCE_PATH.match(name):
        yield name[resource.end() :]
    for _ in range(MAX_SEGMENTS):
        _, slash, name = name.partition("/")
        if not slash:
            return
        yield name


def _rewritten(name: str) -> Iterator[str]:
    """Other spellings of the very same model."""
    if region := _REGION.match(name):
        name = name[region.end() :]
        yield name
    if publisher := _PUBLISHER.match(name):
        name = name[publisher.end() :]
        yield name
    if tuned := _FINE_TUNED.match(name):
        name = tuned[0]
        yield name
    if _COMPACT_DATE.search(name):
        yield _COMPACT_DATE.sub(r"-\1-\2-\3", name)
    if _OLD_AZURE.match(name):
        name = _OLD_AZURE.sub("gpt-3.5-", name)
        yield name
    if tagged := _OLLAMA_TAG.search(name):
        yield f"{name[: tagged.start()]}-{tagged[1]}"
    if family := _FAMILY_LAST.match(name):
        major, minor, kind, rest = family.groups()
        yield f"claude-{kind}-{major}-{minor}{rest}" if minor else f"claude-{kind}-{major}{rest}"
    if _DOTTED.search(name):
        yield _DOTTED.sub("-", name)
    if _DASHED.search(name):
        yield _DASHED.sub(".", name)


def _without_version(name: str) -> Iterator[str]:
    """The model without its deployment version or routing suffix."""
    for pattern in (_ROUTE, _VERSION):
        if found := pattern.search(name):
            name = name[: found.start()]
            yield name


def _without_date(name: str) -> Iterator[str]:
    """The family that a dated, numbered or staged release belongs to."""
    for pattern in (_STAGE, _DATE, _STAGE):
        if found := pattern.search(name):
            name = name[: found.start()]
            yield name
    if maker_of(name) and "/" not in name and not name.endswith("-latest"):
        yield f"{name}-latest"
