"""An interpreter that has litellm, a stack in front of it, and a provider that plays recordings back."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.stack import ROOT, Stack
from support.upstream import Answer, ScriptedUpstream, Seen

from tests.sidecar.wire.conftest import Case, reply_bytes

ENVIRONMENT = ROOT / ".venvs" / "litellm" / "bin" / "python"
"""Made by ``make env-litellm``: litellm's pins and those of the tests' SDKs do not go together."""


def python_with_litellm() -> str:
    """An interpreter that can import litellm, or a skip that says how to get one."""
    if importlib.util.find_spec("litellm") is not None:
        return sys.executable
    if ENVIRONMENT.exists():
        return str(ENVIRONMENT)
    pytest.skip("litellm is not here: make env-litellm")


class Recordings:
    """A provider, whichever it is, that answers with the recording at hand."""

    def __init__(self) -> None:
        self.case: Case | None = None
        self.script: Callable[[Seen], Answer] | None = None
        """Answers instead, where a test says how."""
        self.server = ScriptedUpstream(self._answer)

    def _answer(self, seen: Seen) -> Answer:
        if seen.target == "/token":  # Google's, for a service account.
            token = {"access_token": "ya29.a-token", "expires_in": 3600, "token_type": "Bearer"}
            return Answer(pieces=[json.dumps(token).encode()])
        if self.script is not None:
            return self.script(seen)
        case = self.case
        assert case is not None
        if "body_base64" in case and case["expected"]["stream"]:
            kind = "application/vnd.amazon.eventstream"
        else:
            kind = "text/event-stream" if case.get("sse") is not None else "application/json"
        headers = {"content-type": kind, **case["headers"]}
        return Answer(case["status"], headers=list(headers.items()), pieces=[reply_bytes(case)])


ACCOUNTS = {
    "anthropic": {"provider": "anthropic"},
    "azure": {"provider": "azure", "api_version": "2024-10-21"},
    "bedrock": {
        "aws_region_name": "us-east-1",
        "aws_access_key_id": "${AWS_ID}",
        "aws_secret_access_key": "${AWS_SECRET}",
    },
    "cerebras": {},
    "cohere": {"provider": "cohere_chat"},
    "deepseek": {},
    "google": {"provider": "gemini"},
    "groq": {},
    "huggingface": {},
    "mistral": {},
    "openrouter": {},
    "perplexity": {},
    "together": {"provider": "together_ai"},
    "vertex": {
        "provider": "vertex_ai",
        "vertex_project": "a-project",
        "vertex_location": "us-central1",
        "vertex_credentials": "file:service-account.json",
    },
    "xai": {},
    "zai": {},
}
"""Each provider of the recordings, as an upstream named like it."""

SECRETS = {
    "PROVIDER_KEY": "very-secret-provider-key-1",
    "AWS_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}


@pytest.fixture(scope="module")
def provider() -> Iterator[Recordings]:
    """Stands in for every provider."""
    recordings = Recordings()
    with recordings.server:
        yield recordings


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, provider: Recordings) -> Iterator[Stack]:
    """A sidecar and a collector; every provider is reached through the real litellm."""
    folder = tmp_path_factory.mktemp("litellm")
    url = provider.server.url
    write_service_account(folder / "service-account.json", f"{url}/token")
    upstreams = {}
    for name, account in ACCOUNTS.items():
        upstreams[name] = {"kind": "litellm", "base_url": url, "litellm": account}
        if name not in ("bedrock", "vertex"):
            upstreams[name]["api_key"] = "${PROVIDER_KEY}"
    settings = {
        "litellm": {"python": python_with_litellm()},
        "models": {
            "claude-sonnet": {"upstream": "anthropic", "model": "claude-sonnet-4-5"},
            "llama": {"upstream": "groq", "model": "llama-3.3-70b-versatile"},
        },
        "deadlines": {"first_byte": "6s"},
        "cache": {"exact": False},  # Some recordings answer the same request differently.
    }
    # What litellm would take for orders, were it to see them.
    environment = {
        **SECRETS,
        "GROQ_API_KEY": "a-key-from-the-environment",
        "OPENAI_API_KEY": "a-key-from-the-environment",
        "LITELLM_LOG": "DEBUG",
        "GROQ_API_BASE": "http://127.0.0.1:9",
    }
    with Stack(folder, upstreams, settings=settings, environment=environment) as running:
        yield running


def write_service_account(path: Path, token_uri: str) -> None:
    """Google's file of credentials, with a key of our own and our own place to ask for tokens."""
    key = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    account = {
        "type": "service_account",
        "project_id": "a-project",
        "private_key_id": "1",
        "private_key": key,
        "client_email": "bursar@a-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_uri,
    }
    path.write_text(json.dumps(account))
