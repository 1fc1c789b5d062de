"""What a path of a provider stands for: whether it can spend, in which dialect, on which model.

Used for pass-through, where any path of an upstream may be asked. What is not known
to be free or to report its usage counts as spending unseen, and is refused unless
the configuration allows it.
"""

import re
from typing import Final, Literal
from urllib.parse import unquote

from collector.patterns import expression

Spending = Literal["metered", "free", "unmetered"]

_FREE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})

_SUSPECT: Final = expression(r"//|/\.\.?(?:/|$)|[;\\\x00-\x1f]|%2e|%2f|%5c|%25", re.I)
"""Paths that two readers could understand differently."""

_FREE: Final = expression(
    r"/(?:count_tokens|tokenize|detokenize|input_tokens|cancel)$"
    r"|:(?:countTokens|computeTokens)$"
    r"|/api/(?:show|tags|ps|version)$",
)

_METERED: Final = expression(
    # OpenAI, Anthropic and those who copied them
    r"/(?:chat/completions|completions|embeddings|messages|responses|responses/compact)$"
    r"|/v[12]/(?:chat|generate|embed)$"  # Cohere
    r"|(?:^|/v1)/(?:rerank|score|pooling)$"  # Voyage, Jina, vLLM: tokens; Cohere's v2 bills searches
    r"|/api/(?:chat|generate|embed|embeddings)$"  # Ollama
    r"|/services/(?:aigc/text-generation/generation|embeddings/text-embedding/text-embedding)$"  # DashScope
    r"|:(?:generateContent|streamGenerateContent|embedContent|batchEmbedContents)$"  # Gemini
    r"|:(?:rawPredict|streamRawPredict)$"  # Claude and others on Vertex
    r"|/models/[^/]*embedding[^/]*:predict$"  # Vertex's older embeddings
    r"|/model/[^/]+/(?:converse|converse-stream|invoke|invoke-with-response-stream)$"  # Bedrock
)

_BY_PIECE: Final = expression(
    r"image|imagen|canvas|(?:nova|luma)[^/]*reel|stability|stable-|luma|sonic|veo-|lyria|-tts|twelvelabs|marengo",
    re.I,
)
"""Models billed by the image, second or step, whatever tokens their replies speak of."""

_TOKENS_OF_IMAGES: Final = expression(r"gemini[^/]*image", re.I)
"""Gemini's image models do report what they bill, as tokens."""

_APIS: Final = (
    (expression(r"/chat/completions$"), "openai.chat"),
    (expression(r"/completions$"), "openai.completions"),
    (expression(r"/responses(?:/compact)?$"), "openai.responses"),
    (expression(r"/embeddings$"), "openai.embeddings"),
    (expression(r"/v1/messages$"), "anthropic.messages"),
    (expression(r"/v1/messages/count_tokens$"), "anthropic.count_tokens"),
)

_MODELS: Final = (
    expression(r"/model/([^/]+)/(?:converse|invoke)"),  # Bedrock
    expression(r"/deployments/([^/]+)/"),  # Azure
    expression(r"/models/([^/:]+):[A-Za-z]+$"),  # Gemini, Vertex
)

_STREAMS: Final = expression(
    r"(?::stream(?:GenerateContent|RawPredict)|/converse-stream|/invoke-with-response-stream)$"
)


def spends(method: str, path: str) -> Spending:
    """Whether a request can cost money, and whether its reply says how much.

    ``metered`` replies carry usage (or are estimated), ``free`` ones cost nothing,
    ``unmetered`` ones can spend without saying what: images, speech, files, batches,
    fine-tuning, realtime, and whatever is not known.
    """
    if method.upper() in _FREE_METHODS:
        return "free"
    path = path.partition("?")[0]
    if _SUSPECT.search(path):
        return "unmetered"
    path = unquote(path).rstrip("/")
    if _FREE.search(path):
        return "free"
    if not _METERED.search(path):
        return "unmetered"
    model = model_in(path)
    if model and _BY_PIECE.search(model) and not _TOKENS_OF_IMAGES.search(model):
        return "unmetered"
    return "metered"


def api_of(path: str) -> str:
    """The dialect of a pass-through path where it is one of our own, else ``raw``."""
    path = path.partition("?")[0].rstrip("/")
    return next((api for pattern, api in _APIS if pattern.search(path)), "raw")


def model_in(path: str) -> str:
    """The model (or deployment) that the path names, empty when the body must say."""
    path = path.partition("?")[0]
    for pattern in _MODELS:
        if found := pattern.search(path):
            return unquote(found[1])[:256]
    return ""


def streams(path: str) -> bool:
    """Whether the path alone asks for a stream."""
    return _STREAMS.search(path.partition("?")[0]) is not None
