"""People sign in, with a provider or through a proxy, and see their tenants: in a real browser."""

import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from support.alerting import program
from support.browsing import CHROMIUM, FLAGS, PATIENCE_MS, said, until_healthy, without_chromium
from support.identity import Provider
from support.ports import free_port
from support.stack import IMPORTS, Stack, simulator, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.browser, without_chromium, pytest.mark.timeout(600)]

SECRETS = {"CLIENT_SECRET": "a-client-secret-of-this-test", "COOKIE_SECRET": "c" * 40}

ROLES = [
    {"users": ["fay@finance.example"]},
    {"users": ["ann@acme.example"], "tenants": ["acme"], "operate": True},
    {"users": ["gus@globex.example"], "tenants": ["globex"]},
]
PEOPLE: dict[str, dict[str, Any]] = {
    "ann": {"email": "ann@acme.example", "email_verified": True},
    "fay": {"email": "fay@finance.example", "email_verified": True},
    "imposter": {"email": "ann@acme.example", "email_verified": False},
    "stranger": {"email": "sam@elsewhere.example", "email_verified": True},
}


@contextlib.contextmanager
def treasury(folder: Path, access: dict[str, Any], port: int) -> Iterator[Stack]:
    """Sidecar, collector and dashboard with two calls of one tenant and one of another."""
    address = f"127.0.0.1:{port}"
    with simulator() as model:
        settings = {
            "access": access | {"roles": ROLES},
            "dashboard": {"listen": address},
            "budgets": [{"name": "tenants", "each": "tenant", "limit": "10 USD", "window": "day"}],
        }
        upstreams = {"openai": {"kind": "openai", "base_url": f"{model}/v1"}}
        with Stack(folder / "stack", upstreams, settings, SECRETS) as stack:
            for tenant in ("acme", "acme", "globex"):
                call(stack.url, tenant)
            stack.calls(3)
            with (folder / "dashboard.log").open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "sidecar.cli", "dashboard", "--config", str(stack.config_file)],
                    cwd=folder,
                    env={**os.environ, "PYTHONPATH": IMPORTS, **SECRETS},
                    stdout=log,
                    stderr=log,
                )
                try:
                    until_healthy(f"http://{address}/_stcore/health", process)
                    yield stack
                finally:
                    process.terminate()
                    process.wait(20)


def call(url: str, tenant: str) -> None:
    said = {"model": "gpt-5.4", "max_tokens": 64, "messages": [{"role": "user", "content": tenant}]}
    headers = {"content-type": "application/json", "authorization": "Bearer sk-x", "x-bursar-tenant": tenant}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(said).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert reply.status == 200


def spent(stack: Stack, **filters: str) -> str:
    (row,) = stack.ask("totals", **filters)
    return f"Ledger: {Decimal(row['effective_cost_usd']):,.12f} USD spent"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def visitor(browser: Browser, **more: Any) -> Iterator[Page]:
    """A browser that has been nowhere yet."""
    context = browser.new_context(**more)
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def with_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Stack, Provider]]:
    """A dashboard that lets people sign in with a provider; its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    provider = Provider("bursar", SECRETS["CLIENT_SECRET"], f"{url}/oauth2callback", PEOPLE)
    access = {
        "sign_in": "oidc",
        "oidc": {
            "metadata_url": provider.metadata_url,
            "client_id": provider.client_id,
            "client_secret": "${CLIENT_SECRET}",
            "cookie_secret": "${COOKIE_SECRET}",
            "redirect_url": provider.redirect_url,
        },
    }
    folder = tmp_path_factory.mktemp("oidc")
    with provider.serving(), treasury(folder, access, port) as stack:
        yield url, stack, provider


def sign_in(page: Page, url: str, login: str) -> None:
    page.goto(f"{url}/?live=false")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Name").fill(login)
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url(re.compile(re.escape(url)))


def test_who_signs_in_with_a_provider_sees_the_tenants_of_the_role(
    with_provider: tuple[str, Stack, Provider], browser: Browser
) -> None:
    url, stack, provider = with_provider
    with visitor(browser) as page:
        page.goto(f"{url}/?live=false")
        expect(said(page, "to see what your agents cost")).to_be_visible()
        expect(page.get_by_text("Ledger:")).to_have_count(0)

        sign_in(page, url, "ann")
        expect(said(page, "ann@acme.example")).to_be_visible()
        expect(said(page, spent(stack, tenant="acme"))).to_be_visible()
        # I06: another tenant in the address is a refusal, whatever the page would show.
        page.goto(f"{url}/?live=false&tenant=globex")
        expect(said(page, "No figures")).to_be_visible()
        expect(page.get_by_text("Ledger:")).to_have_count(0)

        page.goto(f"{url}/?live=false")
        page.get_by_role("button", name="Sign out").click()
        expect(said(page, "to see what your agents cost")).to_be_visible()
    with visitor(browser) as page:
        sign_in(page, url, "fay")
        expect(said(page, spent(stack))).to_be_visible()
    assert provider.refused == []


@pytest.mark.parametrize(("login", "told"), [("imposter", "Sign in"), ("stranger", "No figures")])
def test_an_unverified_address_is_nobody_s_name_and_a_name_without_a_role_sees_nothing(
    with_provider: tuple[str, Stack, Provider], browser: Browser, login: str, told: str
) -> None:
    url, _, _ = with_provider
    with visitor(browser) as page:
        sign_in(page, url, login)
        expect(said(page, told)).to_be_visible()
        expect(page.get_by_text("Ledger:")).to_have_count(0)


def test_a_forged_cookie_signs_nobody_in(
    with_provider: tuple[str, Stack, Provider], browser: Browser
) -> None:
    url, _, _ = with_provider
    with visitor(browser) as page:
        sign_in(page, url, "ann")
        expect(said(page, "ann@acme.example")).to_be_visible()
        cookies = page.context.cookies()
        (mine,) = [cookie for cookie in cookies if cookie["name"] == "_streamlit_user"]
        assert mine["httpOnly"]
        forged = {**mine, "value": mine["value"][:-6] + "AAAAAA"}
        page.context.clear_cookies()
        page.context.add_cookies([forged])
        page.goto(f"{url}/?live=false")
        expect(said(page, "to see what your agents cost")).to_be_visible()


NGINX = """
daemon off; user root; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 1;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  server {{
    listen 127.0.0.1:{port};
    auth_basic "Bursar"; auth_basic_user_file {folder}/people;
    location / {{
      proxy_pass http://127.0.0.1:{dashboard};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Forwarded-User $remote_user;
    }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path, dashboard: int) -> Iterator[str]:
    """A real nginx that asks for a password and says who it was; its address."""
    port = free_port()
    hashed = subprocess.run(
        [program("openssl"), "passwd", "-apr1", "pw"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (folder / "people").write_text("".join(f"{name}:{hashed}\n" for name in ("ann@acme.example", "nobody")))
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, dashboard=dashboard))
    process = subprocess.Popen([program("nginx"), "-c", str(config), "-p", str(folder)])
    url = f"http://127.0.0.1:{port}"

    def asks_for_a_password() -> bool:
        assert process.poll() is None, (folder / "nginx.log").read_text()
        try:
            urllib.request.urlopen(url, timeout=2)
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False
        raise AssertionError("nginx lets anybody in")

    try:
        wait_for("nginx", asks_for_a_password)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def test_behind_nginx_people_are_who_it_says_and_see_the_tenants_of_their_role(
    tmp_path: Path, browser: Browser
) -> None:
    port = free_port()
    direct = f"http://127.0.0.1:{port}"
    with treasury(tmp_path, {"sign_in": "proxy"}, port) as stack, nginx(tmp_path, port) as url:
        secret = {"username": "ann@acme.example", "password": "pw"}
        # What the browser claims of itself is overwritten by the proxy.
        claimed = {"x-forwarded-user": "fay@finance.example"}
        with visitor(browser, http_credentials=secret, extra_http_headers=claimed) as page:
            page.goto(f"{url}/?live=false")
            expect(said(page, "ann@acme.example")).to_be_visible()
            expect(said(page, spent(stack, tenant="acme"))).to_be_visible()
            page.goto(f"{url}/budgets?live=false")
            expect(said(page, "Used up")).to_be_visible()
            table = page.get_by_test_id("stDataFrame").first
            expect(table).to_contain_text("acme")
            expect(table).not_to_contain_text("globex")
        with visitor(browser, http_credentials={"username": "nobody", "password": "pw"}) as page:
            page.goto(f"{url}/?live=false")
            expect(said(page, "No figures")).to_be_visible()
            expect(page.get_by_text("Ledger:")).to_have_count(0)
        with visitor(browser) as page:  # Past the proxy nobody has a name.
            page.goto(f"{direct}/?live=false")
            expect(said(page, "Nobody has signed in")).to_be_visible()
            expect(page.get_by_text("Ledger:")).to_have_count(0)
        assert urlsplit(url).port != port
