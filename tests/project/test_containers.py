"""The containers run what the command line offers, listen where callers look, and can do little else."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ports import free_ports
from support.stack import wait_for

from collector.settings import Duration, unknown_overrides
from inference.profiles import options_of
from sidecar import cli
from sidecar.config import OTHER_VARIABLES, BursarConfig, load_config

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
ALL: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVICES = {name: service for name, service in ALL.items() if service["image"].startswith("bursar:")}
"""Ours; the others stand around them."""
AROUND = sorted(set(ALL) - set(SERVICES))
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


def interpolated(text: str, **given: str) -> str:
    """As compose reads a text: variables that are not given take their defaults."""
    text = re.sub(r"(?<!\$)\$\{([A-Z_]+)(?::-([^}]*))?\}", lambda m: given.get(m[1], m[2] or ""), text)
    return text.replace("$$", "$")


def configuration(name: str, folder: Path, which: str = "hosted.yaml") -> BursarConfig:
    """What the service's process will read."""
    path = folder / "bursar.yaml"
    path.write_text(interpolated(COMPOSE["configs"][which]["content"]))
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
    assert interpolated(SERVICES[name]["configs"][0]["source"]) == "hosted.yaml"
    with_gpu = configuration(name, tmp_path, "with-gpu.yaml")
    assert with_gpu.upstreams["local"].urls == ("http://vllm:8000",)
    assert with_gpu.models["model"].upstream == "local"


@each_service
def test_its_ports_are_published_on_this_machine_alone_and_where_they_are_expected(name: str) -> None:
    ports = {name: PORTS.get(name, set())} | {"prometheus": {9090}, "alertmanager": {9093}}
    published = [re.fullmatch(r"127\.0\.0\.1:(\d+):(\d+)", port) for port in ALL[name].get("ports", [])]
    assert all(published)
    assert all(match[1] == match[2] for match in published)
    assert {int(match[2]) for match in published} == ports[name]


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


def test_alerts_are_well_while_they_write_down_how_they_stand(tmp_path: Path) -> None:
    """They listen nowhere: the file says it."""
    from alerts.run import SAVE_EVERY_S
    from alerts.state import AlertFolder

    probe = SERVICES["alerts"]["healthcheck"]["test"]
    assert probe[:3] == ["CMD", "python", "-c"]
    ask = [sys.executable, "-c", probe[3].replace("/var/lib/bursar", str(tmp_path))]

    def is_well() -> bool:
        return subprocess.run(ask, capture_output=True, timeout=60).returncode == 0

    assert not is_well()
    AlertFolder(tmp_path).save("state", {})
    assert is_well()
    for age, well in ((2 * SAVE_EVERY_S, True), (4 * SAVE_EVERY_S, False)):
        at = time.time() - age
        os.utime(tmp_path / "alerts/state.json", (at, at))
        assert is_well() is well


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


# -- what stands around ours


@pytest.mark.parametrize("name", AROUND)
def test_what_stands_around_can_do_little_and_is_asked_for_its_health(name: str) -> None:
    service = ALL[name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert re.fullmatch(r"[a-z/-]+:v?[0-9][0-9.]+(-alpine)?", service["image"]), "an image without a version"
    assert service["healthcheck"]["test"][0] == "CMD"
    ports = {"prometheus": ["127.0.0.1:9090:9090"], "alertmanager": ["127.0.0.1:9093:9093"]}
    assert service.get("ports", []) == ports.get(name, [])


def native(name: str, folder: Path, port: int) -> list[str]:
    """The service's very command, with its files in ``folder`` and its port another."""
    program = {"alertmanager": "prometheus-alertmanager", "redis": "redis-server"}.get(name, name)
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed here (make services)")
    for config in ALL[name].get("configs", []):
        told = COMPOSE["configs"][config["source"]]
        text = interpolated(told["content"]) if "content" in told else (ROOT / told["file"]).read_text()
        target = folder / config["target"].lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    words = [word for word in ALL[name]["command"] if word != "redis-server"]
    moved = [re.sub(r"=/", f"={folder}/", word).replace("0.0.0.0:", "127.0.0.1:") for word in words]
    usual = {"redis": "6379", "prometheus": "9090", "alertmanager": "9093"}[name]
    return [found, *(word.replace(usual, str(port)) for word in moved)]


@pytest.mark.parametrize("name", ["alertmanager", "prometheus", "redis"])
def test_its_command_line_starts_the_real_program_and_its_health_is_told(name: str, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            native(name, tmp_path, port), cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT
        )
    try:

        def answers() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
            with contextlib.suppress(OSError):
                if name == "redis":
                    with socket.create_connection(("127.0.0.1", port), 2) as client:
                        client.sendall(b"PING\r\n")
                        return client.recv(16).startswith(b"+PONG")
                path = re.search(r"http://127\.0\.0\.1:\d+(/\S+)", ALL[name]["healthcheck"]["test"][-1])
                assert path is not None
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path[1]}", timeout=2) as reply:
                    return bool(reply.status == 200)
            return False

        wait_for(name, answers, 60)
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_our_command_lines_start_together_with_the_files_own_settings(tmp_path: Path) -> None:
    """As compose would start them, but for ports, for the names of hosts, and for where data lies."""
    data = str(tmp_path / "data")
    words = {"/etc/bursar": str(tmp_path), "/var/lib/bursar": data, "BURSAR_YAML": "hosted"}
    for host, ports in {
        "0.0.0.0": (4000, 4001, 4010, 8501),
        "redis": (6379,),
        "alertmanager": (9093,),
    }.items():
        words |= {f"{host}:{port}": f"127.0.0.1:{free_ports(1)[0]}" for port in ports}
    words |= {
        "collector:4010": words["0.0.0.0:4010"],
        "sidecar:4001": words["0.0.0.0:4001"],
        **{f"127.0.0.1:{port}": words[f"0.0.0.0:{port}"] for port in (4000, 4010, 8501)},
    }

    def moved(text: str) -> str:
        return re.sub("|".join(map(re.escape, words)), lambda found: words[found[0]], text)

    config = interpolated(COMPOSE["configs"]["hosted.yaml"]["content"])
    (tmp_path / "bursar.yaml").write_text(f"{moved(config)}data_dir: {data}\n")
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, service in SERVICES.items():
            # A key that is empty stands for none.
            given = {key: moved(value) for key, value in environment(name).items() if value}
            given |= {"OPENAI_API_KEY": "sk-of-nobody-at-all-0001", "ANTHROPIC_API_KEY": "sk-of-nobody-0002"}
            with (tmp_path / name).open("wb") as log:
                argv = [sys.executable, "-m", "sidecar.cli", *map(moved, service["command"])]
                env = {**kept, **given, "PYTHONPATH": str(ROOT)}
                started[name] = subprocess.Popen(argv, cwd=tmp_path, env=env, stdout=log, stderr=log)

        def is_well(name: str) -> bool:
            assert started[name].poll() is None, (tmp_path / name).read_text()[-3000:]
            probe = [word for word in SERVICES[name]["healthcheck"]["test"] if word != "CMD"]
            probe = [sys.executable, "-c", moved(probe[-1])]
            return subprocess.run(probe, capture_output=True, timeout=30).returncode == 0

        for name in SERVICES:
            wait_for(f"{name}'s health check", lambda name=name: is_well(name), 120)
        assert {name: process.poll() for name, process in started.items()} == dict.fromkeys(SERVICES)
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            process.wait(60)


def test_prometheus_reads_every_rule_that_is_shipped_and_asks_every_process_with_metrics() -> None:
    shipped = {path.name for path in (ROOT / "alerts/rules").glob("*.yml")}
    mounted = {Path(config["target"]).name for config in ALL["prometheus"]["configs"]} - {"prometheus.yml"}
    assert mounted == shipped
    told = yaml.safe_load(
        interpolated(COMPOSE["configs"]["prometheus.yml"]["content"], BURSAR_CONTROL_KEY="k")
    )
    ours = yaml.safe_load((ROOT / "alerts/prometheus.yml").read_text())
    assert [job["job_name"] for job in told["scrape_configs"]] == [
        job["job_name"] for job in ours["scrape_configs"]
    ]


def test_vllm_runs_the_balanced_profile_on_a_gpu_and_is_published_nowhere() -> None:
    vllm = ALL["vllm"]
    assert vllm["profiles"] == ["gpu"]
    assert yaml.safe_load(COMPOSE["configs"]["vllm.yml"]["content"]) == options_of(["balanced"], {})
    (device,) = vllm["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    pinned = re.search(r"^vllm==(\S+)", (ROOT / "requirements/vllm.txt").read_text(), re.M)
    assert pinned is not None
    assert vllm["image"] == f"vllm/vllm-openai:v{pinned[1]}"


def test_everybody_finds_redis_and_alertmanager_by_their_service_names(tmp_path: Path) -> None:
    config = configuration("sidecar", tmp_path)
    assert config.redis == "redis://redis:6379"
    assert config.alerts.alertmanager == ("http://alertmanager:9093",)


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


def test_the_image_is_built_with_a_compiler_and_kept_without_one() -> None:
    _, built, kept = image().split("\nFROM ")
    assert "install -y --no-install-recommends gcc " in built
    assert 'READ_BY == "C and Python"' in built
    assert "apt-get" not in kept
