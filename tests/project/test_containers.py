"""The containers run what the command line offers, listen where callers look, and can do little else."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector.settings import Duration, unknown_overrides
from sidecar import cli
from sidecar.config import OTHER_VARIABLES, BursarConfig, load_config

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DEFAULTS = BursarConfig()
PORTS = {
    "sidecar": {DEFAULTS.listen.port, DEFAULTS.control.listen.port},
    "collector": {DEFAULTS.collector.listen.port},
    "dashboard": {DEFAULTS.dashboard.listen.port},
}
each_service = pytest.mark.parametrize("name", sorted(SERVICES))


def environment(name: str) -> dict[str, str]:
    """A service's environment, with the operator's key filled in and nothing else set."""
    filled = {}
    for variable, value in SERVICES[name]["environment"].items():
        value = re.sub(r"\$\{[A-Z_]+:\?[^}]*\}", "a-control-key-of-thirty-two-letters", value)
        filled[variable] = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", value)
    return filled


def configuration(name: str, folder: Path) -> BursarConfig:
    """What the service's process will read."""
    path = folder / "bursar.yaml"
    path.write_text(COMPOSE["configs"]["bursar.yaml"]["content"].replace("$$", "$"))
    return load_config(path, environment(name))


@each_service
def test_its_command_is_one_that_the_program_takes(name: str) -> None:
    arguments = cli.parser().parse_args(SERVICES[name]["command"])
    assert arguments.command == name
    assert str(arguments.config) == SERVICES[name]["configs"][0]["target"]


def test_the_same_processes_run_as_on_one_machine() -> None:
    from sidecar.commands.up import parts_of

    parts = {part.name for part in parts_of(DEFAULTS, None, dashboard=True)}
    assert parts == set(SERVICES)


@each_service
def test_its_settings_exist(name: str) -> None:
    assert unknown_overrides(BursarConfig, environment(name), OTHER_VARIABLES) == []


@each_service
def test_its_configuration_can_be_used(name: str, tmp_path: Path) -> None:
    config = configuration(name, tmp_path)
    assert set(config.upstreams) == {"openai", "anthropic"}
    assert config.control.key is not None


@each_service
def test_its_ports_are_published_on_this_machine_alone_and_where_they_are_expected(name: str) -> None:
    published = [re.fullmatch(r"127\.0\.0\.1:(\d+):(\d+)", port) for port in SERVICES[name].get("ports", [])]
    assert all(published)
    assert all(match[1] == match[2] for match in published)
    assert {int(match[2]) for match in published} == PORTS.get(name, set())


def test_what_is_published_listens_for_more_than_its_own_container(tmp_path: Path) -> None:
    sidecar = configuration("sidecar", tmp_path)
    assert sidecar.allow_remote
    listening = {
        sidecar.listen,
        sidecar.control.listen,
        configuration("collector", tmp_path).collector.listen,
        configuration("dashboard", tmp_path).dashboard.listen,
    }
    assert {address.host for address in listening} == {"0.0.0.0"}
    assert {address.port for address in listening} == set().union(*PORTS.values())


def test_the_dashboard_finds_the_collector_by_its_service_name(tmp_path: Path) -> None:
    assert str(configuration("dashboard", tmp_path).collector.listen) == "collector:4010"


@each_service
def test_it_does_not_start_without_the_operators_key(name: str) -> None:
    assert SERVICES[name]["environment"]["BURSAR_CONTROL_KEY"].startswith("${BURSAR_CONTROL_KEY:?")


def test_alerts_find_collector_and_sidecar_by_their_service_names(tmp_path: Path) -> None:
    config = configuration("alerts", tmp_path)
    assert (str(config.collector.listen), str(config.control.listen)) == ("collector:4010", "sidecar:4001")


@pytest.mark.parametrize("name", [name for name in sorted(SERVICES) if "ports" in SERVICES[name]])
def test_its_health_is_asked_where_it_answers(name: str) -> None:
    from dashboards.launch import health_url

    probe = SERVICES[name]["healthcheck"]["test"]
    assert probe[:3] == ["CMD", "python", "-c"]
    compile(probe[3], "healthcheck", "exec")
    url = re.search(r"http://[^']+", probe[3])
    assert url
    if name == "dashboard":
        assert url[0] == health_url("127.0.0.1", DEFAULTS.dashboard.listen.port)
    else:
        port = {"sidecar": DEFAULTS.listen.port, "collector": DEFAULTS.collector.listen.port}[name]
        assert url[0] == f"http://127.0.0.1:{port}/healthz"


@each_service
def test_it_can_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service["user"].startswith("0")
    assert not any(str(volume).startswith(("/", ".", "~")) for volume in service.get("volumes", []))


@each_service
def test_running_calls_may_end_before_it_is_killed(name: str) -> None:
    assert Duration.parse(SERVICES[name]["stop_grace_period"]) > DEFAULTS.deadlines.drain


def test_the_journal_is_shared_by_those_who_write_and_read_it() -> None:
    assert SERVICES["sidecar"]["volumes"] == SERVICES["collector"]["volumes"]
    assert "volumes" not in SERVICES["dashboard"]


def image() -> str:
    return re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())


def test_the_image_holds_every_package_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert f"COPY {package} {package}\n" in image()
        assert f"!{package}/\n" in (ROOT / ".dockerignore").read_text()


def test_the_image_runs_as_an_ordinary_user_who_owns_the_data_directory() -> None:
    user = re.findall(r"^USER (\S+)$", image(), re.M)
    assert user == ["bursar"]
    uid = re.search(r"--uid (\d+)", image())
    assert uid
    assert {service["user"].split(":")[0] for service in SERVICES.values()} == {uid[1]}
    data = re.search(r"BURSAR_DATA_DIR=(\S+)", image())
    assert data
    assert SERVICES["sidecar"]["volumes"] == [f"data:{data[1]}"]


def test_the_image_starts_the_program_that_the_project_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entry = re.search(r'^ENTRYPOINT \["(\w+)"\]$', image(), re.M)
    assert entry
    assert entry[1] in project["scripts"]
    python = re.search(r"^ARG PYTHON=3\.(\d+)$", image(), re.M)
    assert python
    assert int(python[1]) >= 11


def test_the_image_and_the_services_bear_the_projects_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {service["image"] for service in SERVICES.values()} == {f"bursar:{version}"}
