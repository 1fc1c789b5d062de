"""``access`` in the configuration: what is not right is told, and what is right reaches the dashboard."""

from pathlib import Path

import pytest

from collector.domain.access import Role
from collector.settings import InvalidSettings
from sidecar.commands.dashboard import sign_in_of
from sidecar.config import BursarConfig, load_config

OIDC = """
access:
  sign_in: oidc
  oidc:
    metadata_url: https://id.example/.well-known/openid-configuration
    client_id: bursar
    client_secret: ${CLIENT_SECRET}
    cookie_secret: ${COOKIE_SECRET}
    redirect_url: https://bursar.example/oauth2callback
"""


def configured(folder: Path, text: str, **environ: str) -> BursarConfig:
    path = folder / "bursar.yaml"
    path.write_text(f"data_dir: {folder}/data\n{text}")
    return load_config(path, environ)


def test_nobody_has_to_sign_in_unless_it_is_said(tmp_path: Path) -> None:
    assert sign_in_of(configured(tmp_path, "")) is None


def test_roles_are_read_in_order(tmp_path: Path) -> None:
    text = """
access:
  sign_in: proxy
  roles:
    - {users: [ann], tenants: [acme], operate: true}
    - {users: ["*"]}
"""
    config = configured(tmp_path, text)
    assert config.access.all_roles() == (
        Role(users=("ann",), tenants=("acme",), operate=True),
        Role(users=("*",), tenants=("*",), operate=False),
    )
    sign_in = sign_in_of(config)
    assert sign_in is not None
    assert (sign_in.how, sign_in.what, list(sign_in.trusted_proxies)) == (
        "proxy", "x-forwarded-user", ["127.0.0.1", "::1"],
    )  # fmt: skip


def test_a_provider_s_secrets_lie_where_nobody_else_reads_them_and_are_kept_out_of_logs(
    tmp_path: Path,
) -> None:
    secrets = {"CLIENT_SECRET": "s-1" * 5, "COOKIE_SECRET": "c-1" * 5}
    config = configured(tmp_path, OIDC, **secrets)
    for _ in range(2):  # The second start finds the file of the first.
        sign_in = sign_in_of(config)
    assert sign_in is not None
    assert sign_in.secrets is not None
    assert sign_in.secrets.stat().st_mode & 0o777 == 0o600
    assert all(secret in sign_in.secrets.read_text() for secret in secrets.values())
    assert set(secrets.values()) <= set(config.secrets)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("access: {roles: [{users: [ann]}]}", "need people to sign in"),
        ("access: {sign_in: oidc}", "needs metadata_url, client_id, client_secret"),
        ("access: {sign_in: proxy, trusted_proxies: [everybody]}", "neither an address nor a network"),
        ("access: {sign_in: proxy, roles: [{users: []}]}", "name at least one"),
        ("access: {sign_in: proxy, roles: [{users: [a], tenants: []}]}", "name one to 100"),
        ("access: {sign_in: password}", "off, proxy, oidc"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidSettings, match=told):
        configured(tmp_path, text)
