"""What can be said of litellm in the configuration, and what its worker is told of it."""

import dataclasses
from pathlib import Path

import msgspec

from collector.frozen import dataclass
from collector.settings import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class LitellmConfig:
    """What litellm gets to know with each call of one upstream; nothing else reaches it."""

    provider: str = ""
    """litellm's name of the provider (bedrock, vertex_ai, gemini, azure, groq, ...); the upstream's own name
    when empty."""
    drop_params: bool = False
    """Leave out parameters that the provider does not know, where they would be refused otherwise."""
    api_version: str = ""
    """Azure's, say."""
    organization: str = ""
    """OpenAI's."""
    aws_access_key_id: Secret | None = None
    """Bedrock: whose account."""
    aws_secret_access_key: Secret | None = None
    """Bedrock: its secret."""
    aws_session_token: Secret | None = None
    """Bedrock: of temporary credentials."""
    aws_region_name: str = ""
    """Bedrock: where."""
    aws_profile_name: str = ""
    """Bedrock: a profile of ~/.aws; needs HOME in ``litellm.environment``."""
    aws_role_name: str = ""
    """Bedrock: a role to assume."""
    aws_session_name: str = ""
    """Bedrock: what to call that session."""
    vertex_project: str = ""
    """Vertex: whose account."""
    vertex_location: str = ""
    """Vertex: where."""
    vertex_credentials: Secret | None = None
    """Vertex: a service account's JSON, as ``file:PATH``."""
    azure_ad_token: Secret | None = None
    """Azure: instead of ``api_key``."""
    tenant_id: str = ""
    """Azure: of a service principal."""
    client_id: str = ""
    """Azure: of a service principal."""
    client_secret: Secret | None = None
    """Azure: of a service principal."""
    project_id: str = ""
    """watsonx: whose account."""

    @property
    def secrets(self) -> list[str]:
        """Every secret here."""
        values = [getattr(self, item.name) for item in dataclasses.fields(self)]
        return [value.reveal() for value in values if isinstance(value, Secret)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LitellmWorkerConfig:
    """The process that litellm runs in. It starts with the first call that needs it."""

    python: Path | None = None
    """An interpreter of another environment that has Bursar's extra ``litellm``; ours when empty."""
    environment: tuple[str, ...] = ()
    """Variables that the process may see (HTTPS_PROXY, SSL_CERT_FILE, AWS_ROLE_ARN, ...). Of all others, keys
    of providers among them, it sees none."""


class Account(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One upstream, as the worker knows it. Empty means: not said."""

    name: str
    provider: str
    api_key: str = ""
    base_url: str = ""
    headers: dict[str, str] = {}
    drop_params: bool = False
    api_version: str = ""
    organization: str = ""
    aws_access_key_id: str = ""
    aws_secret_access_key: str = ""
    aws_session_token: str = ""
    aws_region_name: str = ""
    aws_profile_name: str = ""
    aws_role_name: str = ""
    aws_session_name: str = ""
    vertex_project: str = ""
    vertex_location: str = ""
    vertex_credentials: str = ""
    azure_ad_token: str = ""
    tenant_id: str = ""
    client_id: str = ""
    client_secret: str = ""
    project_id: str = ""


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """All that the worker is told, one line of JSON on its standard input: arguments can be seen by all."""

    version: str
    """Of Bursar; another one's worker would not understand us."""
    token: str
    """Comes with each request from us, and with none of anybody else's."""
    listener: int
    """The listening socket, a file descriptor that it inherits."""
    timeout_s: float
    """How long a provider may take for one call; ours run out earlier."""
    body_bytes: int
    accounts: list[Account]
    secrets: list[str]


def account_of(
    name: str, config: LitellmConfig, *, api_key: Secret | None, base_url: str, headers: dict[str, str]
) -> Account:
    """What the worker is told of one upstream."""
    told: dict[str, object] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        told[item.name] = value.reveal() if isinstance(value, Secret) else "" if value is None else value
    told["provider"] = config.provider or name
    return msgspec.convert(
        {
            **told,
            "name": name,
            "api_key": api_key.reveal() if api_key else "",
            "base_url": base_url,
            "headers": headers,
        },
        Account,
    )
