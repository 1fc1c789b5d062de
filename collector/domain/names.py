"""The field's words, each with its source, written down once.

OTel GenAI conventions v0.1.0: no language package publishes them yet.
"""

OTHER_ERROR = "_OTHER"
"""``error.type`` where no better word is known (OTel general conventions)."""

PROVIDERS = {
    # gen_ai.provider.name, by what the provider's API host ends in.
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "amazonaws.com": "aws.bedrock",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "x_ai",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.perplexity.ai": "perplexity",
    "api.moonshot.ai": "moonshot_ai",
    "openrouter.ai": "openrouter",
    "api.together.xyz": "together_ai",
    "api.together.ai": "together_ai",
    "us-api.together.ai": "together_ai",
    "ca-api.together.ai": "together_ai",
    "api.fireworks.ai": "fireworks_ai",
    "api.cerebras.ai": "cerebras",
    "api.voyageai.com": "voyage",
    "api.z.ai": "zai",
    "router.huggingface.co": "huggingface",
}
"""Well-known values of OTel GenAI where there is one, else the provider's usual name."""

PROVIDER_OF_KIND = {
    "openai": "openai",
    "anthropic": "anthropic",
    "vllm": "vllm",
    "azure": "azure.ai.openai",
    "google": "gcp.gemini",
    "bedrock": "aws.bedrock",
    "cohere": "cohere",
    "litellm": "litellm",
}

PROVIDER_ALIASES = {
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "aws": "aws.bedrock",
    "vertex": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
    "moonshot": "moonshot_ai",
    "together": "together_ai",
    "fireworks": "fireworks_ai",
    "groq": "groq",
    "deepseek": "deepseek",
    "cohere": "cohere",
    "perplexity": "perplexity",
    "openrouter": "openrouter",
    "cerebras": "cerebras",
    "huggingface": "huggingface",
    "voyage": "voyage",
    "zai": "zai",
    "bedrock_converse": "aws.bedrock",
    "bedrock_mantle": "aws.bedrock",
    "sagemaker": "aws.sagemaker",
    "sagemaker_chat": "aws.sagemaker",
    "azure_ai": "azure.ai.inference",
    "azure_text": "azure.ai.openai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "codestral": "mistral_ai",
    "cohere_chat": "cohere",
    "together_ai": "together_ai",
    "fireworks_ai": "fireworks_ai",
    "watsonx": "ibm.watsonx.ai",
    "watsonx_text": "ibm.watsonx.ai",
    "hosted_vllm": "vllm",
    "ollama_chat": "ollama",
    "openai_like": "openai",
    "text-completion-openai": "openai",
}
"""Names that people give an upstream, and the provider they mean by it."""


def provider_name(kind: str, host: str, upstream: str) -> str:
    """``gen_ai.provider.name`` of an upstream: by its host, else by its own name, else by its kind.

    What goes through litellm is not litellm's: there ``upstream`` is litellm's name of the provider.
    """
    if kind == "litellm":
        return PROVIDER_ALIASES.get(upstream, upstream)
    for suffix, name in PROVIDERS.items():
        if host == suffix or host.endswith("." + suffix):
            return name
    if kind == "openai" and upstream in PROVIDER_ALIASES:
        return PROVIDER_ALIASES[upstream]
    if kind == "google" and "vertex" in upstream:
        return PROVIDER_ALIASES["vertex"]
    return PROVIDER_OF_KIND[kind]
