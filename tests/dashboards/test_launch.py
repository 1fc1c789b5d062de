"""The process: how it is started, what it listens on, what it may be called."""

import sys
import tomllib
from pathlib import Path

import pytest

from dashboards import launch


def test_the_command_runs_our_page_on_the_address_asked_for_without_phoning_home() -> None:
    command = launch.command("127.0.0.1", 8501, "http://127.0.0.1:4010")
    assert command[:4] == [sys.executable, "-m", "streamlit", "run"]
    assert Path(command[4]).is_file()
    assert "--server.address=127.0.0.1" in command
    assert "--server.port=8501" in command
    assert "--browser.gatherUsageStats=false" in command


def test_the_key_travels_in_the_environment_and_never_on_the_command_line() -> None:
    environment = launch.environment("http://127.0.0.1:4010", "operator's")
    assert environment["BURSAR_COLLECTOR_URL"] == "http://127.0.0.1:4010"
    assert environment["BURSAR_CONTROL_KEY"] == "operator's"
    assert "BURSAR_CONTROL_KEY" not in launch.environment("http://127.0.0.1:4010")
    assert not any("operator's" in part for part in launch.command("127.0.0.1", 1, "http://c"))


def test_on_loopback_only_our_own_names_are_answered_to() -> None:
    """Else a page of another site could point its name at 127.0.0.1 and read along."""
    allowed = [part for part in launch.command("127.0.0.1", 1, "http://c") if "allowedHosts" in part]
    assert allowed == ["--server.allowedHosts=127.0.0.1", "--server.allowedHosts=localhost"]
    assert not any("allowedHosts" in part for part in launch.command("10.0.0.7", 1, "http://c"))


def test_how_people_sign_in_travels_in_the_environment_and_secrets_in_a_file() -> None:
    proxy = launch.SignIn(how="proxy", what="x-user", trusted_proxies=["10.0.0.1", "::1"])
    environment = launch.environment("http://c", control_url="http://s", sign_in=proxy)
    assert environment["BURSAR_CONTROL_URL"] == "http://s"
    assert environment["BURSAR_DASHBOARD_SIGN_IN"] == "proxy x-user"
    assert environment["BURSAR_DASHBOARD_PROXIES"] == "10.0.0.1,::1"
    oidc = launch.SignIn(how="oidc", what="email", secrets=Path("/x/secrets.toml"))
    assert "--secrets.files=/x/secrets.toml" in launch.command("127.0.0.1", 1, "http://c", oidc)
    assert not any("secrets" in part for part in launch.command("127.0.0.1", 1, "http://c", proxy))


def test_whom_a_proxy_speaks_for_never_passes_for_the_proxy() -> None:
    """Else anybody on this machine could claim any address in `X-Forwarded-For`."""
    assert launch.environment("http://c")["FORWARDED_ALLOW_IPS"] == ""


def test_a_provider_s_secrets_are_toml_whatever_is_in_them() -> None:
    odd = 'a"b\\c\n\x7f'
    text = launch.oidc_secrets(
        metadata_url="https://id.example/.well-known/openid-configuration",
        client_id="bursar",
        client_secret=odd,
        cookie_secret="c" * 32,
        redirect_url="https://bursar.example/oauth2callback",
    )
    assert tomllib.loads(text)["auth"] == {
        "redirect_uri": "https://bursar.example/oauth2callback",
        "cookie_secret": "c" * 32,
        "client_id": "bursar",
        "client_secret": odd,
        "server_metadata_url": "https://id.example/.well-known/openid-configuration",
    }


def test_an_address_that_is_not_http_is_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="not an http address"):
        launch.command("127.0.0.1", 8501, "127.0.0.1:4010")


def test_by_default_only_this_machine_can_reach_it() -> None:
    settings = tomllib.loads((launch.FOLDER / ".streamlit" / "config.toml").read_text())
    assert settings["server"]["address"] == "127.0.0.1"
    assert settings["server"]["headless"] is True
    assert settings["browser"]["gatherUsageStats"] is False
    assert settings["client"]["disableDataExport"] is True  # its CSV has no guard against formulas
    assert settings["client"]["showErrorDetails"] == "none"


def test_no_module_here_hides_a_package_of_ours_or_of_the_standard_library() -> None:
    ours = {"sidecar", "collector", "alerts", "inference", "dashboards"}
    here = {path.stem for path in launch.FOLDER.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not here & (ours | set(sys.stdlib_module_names))


def test_nothing_is_fetched_from_elsewhere() -> None:
    """Icons of the `:material/` kind and fonts by URL would be; so would the theme's."""
    for path in launch.FOLDER.rglob("*"):
        if path.suffix in (".py", ".toml", ".svg"):
            text = path.read_text()
            assert ":material/" not in text.replace("`:material/`", ""), path
            assert "fonts.g" not in text, path
