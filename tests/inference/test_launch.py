"""How a configured model server becomes a command, and what stands against starting it."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector.settings import Address
from inference.installed import Installed, NotInstalled, find
from inference.launch import CannotStart, Launch, launch_of
from inference.profiles import COMMON, FORBIDDEN, UnknownProfile, options_of, profile, profile_names, summary
from inference.settings import ServerConfig
from sidecar.cli import main

KNOWN = "\n".join(
    f"    {name.replace('-', '_')}: int = 0"
    for name in {key for one in profile_names() for key in profile(one)}
    | set(profile(COMMON))
    | set(FORBIDDEN)
    | {"max-model-len", "revision"}
)


def installed(folder: Path, version: str = "0.32.0", known: str = KNOWN) -> Installed:
    """An environment with a vLLM of that version, as far as can be seen without starting it."""
    site = folder / "env/lib/python3.12/site-packages"
    (site / "vllm/engine").mkdir(parents=True, exist_ok=True)
    (site / f"vllm-{version}.dist-info").mkdir(exist_ok=True)
    (site / f"vllm-{version}.dist-info/METADATA").write_text(f"Metadata-Version: 2.1\nVersion: {version}\n")
    (site / "vllm/engine/arg_utils.py").write_text(known)
    command = folder / "env/bin/vllm"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f"#!{folder}/env/bin/python3\nprint('vllm')\n")
    command.chmod(0o755)
    return find(str(command))


def test_a_vllm_that_was_installed_into_a_folder_is_found_behind_its_command(tmp_path: Path) -> None:
    """``pip install --target``: packages and ``bin`` beside each other, some Python elsewhere."""
    (tmp_path / "there/vllm/engine").mkdir(parents=True)
    (tmp_path / "there/vllm/engine/arg_utils.py").write_text(KNOWN)
    (tmp_path / "there/vllm-0.26.0.dist-info").mkdir()
    (tmp_path / "there/vllm-0.26.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nVersion: 0.26.0\n")
    command = tmp_path / "there/bin/vllm"
    command.parent.mkdir()
    command.write_text("#!/usr/bin/env python3\n")
    command.chmod(0o755)

    found = find(str(command))

    assert (found.release, found.has("max-num-seqs")) == ((0, 26, 0), True)


def test_a_demonstration_on_a_vllm_that_is_not_there_says_so_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["demo", "--vllm", str(tmp_path / "vllm"), "--data-dir", str(tmp_path / "data")]

    assert main(words) == 2

    assert "vllm' is not there: install vLLM" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.fixture
def vllm(tmp_path: Path) -> Installed:
    return installed(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "model").mkdir()
    return str(tmp_path / "model")


def launched(vllm: Installed, tmp_path: Path, model: str, **config: Any) -> Launch:
    environ = config.pop("environ", {"PATH": "/bin", "OPENAI_API_KEY": "sk-secret", "HF_HOME": "/models"})
    more = {name: config.pop(name) for name in ("traces_to", "profiles_to") if name in config}
    server = ServerConfig(model=model, **config)
    return launch_of("one", server, vllm, tmp_path / "run", environ=environ, **more)


def test_the_default_profile_batches_48_with_valves_and_every_figure_switched_on(
    vllm: Installed, tmp_path: Path, model: str
) -> None:
    launch = launched(vllm, tmp_path, model, served_name="qwen", traces_to="http://127.0.0.1:4318/v1/traces")
    launch.write()

    options = yaml.safe_load(launch.options_file.read_text())
    assert options["max-num-seqs"] == 48
    assert (options["max-num-queued-reqs"], options["max-num-queued-tokens"]) == (256, 262_144)
    for name in ("enable-per-request-metrics", "enable-prompt-tokens-details", "enable-mfu-metrics"):
        assert options[name] is True, name
    assert options["otlp-traces-endpoint"] == "http://127.0.0.1:4318/v1/traces"
    assert launch.argv[1:] == (
        *("serve", model, "--config", str(launch.options_file)),
        *("--host", "127.0.0.1", "--port", "8000", "--served-model-name", "qwen"),
    )
    assert launch.url == "http://127.0.0.1:8000"


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_keeps_batches_between_32_and_64_and_bounds_the_queue(name: str) -> None:
    options = options_of([name], {})
    assert 32 <= options["max-num-seqs"] <= 64
    assert options["max-num-queued-reqs"] >= options["max-num-seqs"]
    assert options["max-num-queued-tokens"] > 0
    assert len(summary(name)) > 20
    assert not set(options) & set(FORBIDDEN)


def test_profiles_lie_over_one_another_and_a_servers_own_options_win(
    vllm: Installed, tmp_path: Path, model: str
) -> None:
    launch = launched(
        vllm,
        tmp_path,
        model,
        profile=("throughput", "fp8", "fp8-kv"),
        options={"max_num_seqs": "40", "--enable-prefix-caching": "false"},
    )
    assert launch.options["max-num-seqs"] == "40"
    assert launch.options["enable-prefix-caching"] is False
    assert (launch.options["quantization"], launch.options["kv-cache-dtype"]) == ("fp8", "fp8")


def test_a_profile_that_is_not_there_is_named_with_those_that_are(
    vllm: Installed, tmp_path: Path, model: str
) -> None:
    with pytest.raises(CannotStart, match=r"no profile 'fastest'.*balanced"):
        launched(vllm, tmp_path, model, profile=("fastest",))
    with pytest.raises(UnknownProfile):
        profile("../settings")


def test_a_server_sees_no_key_of_a_provider(vllm: Installed, tmp_path: Path, model: str) -> None:
    launch = launched(vllm, tmp_path, model, gpus=("MIG-1", "MIG-2"), environment={"OMP_NUM_THREADS": "2"})
    assert "OPENAI_API_KEY" not in launch.environment
    assert launch.environment["HF_HOME"] == "/models"
    assert launch.environment["CUDA_VISIBLE_DEVICES"] == "MIG-1,MIG-2"
    assert launch.environment["HF_HUB_OFFLINE"] == "1"
    assert launch.environment["VLLM_NO_USAGE_STATS"] == "1"
    assert launch.environment["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"options": {"trust_remote_code": "true"}}, "trust-remote-code"),
        # vLLM's parser takes beginnings of names.
        ({"options": {"trust-remote": "true"}}, "trust-remote-code"),
        ({"options": {"allowed_local": "/"}}, "allowed-local-media-path"),
        ({"options": {"api-key": "abc"}}, "VLLM_API_KEY"),
        ({"environment": {"VLLM_SERVER_DEV_MODE": "1"}}, "VLLM_SERVER_DEV_MODE"),
        ({"listen": Address("0.0.0.0", 8000)}, "open to others"),
    ],
)
def test_what_is_dangerous_is_not_started_unless_it_is_named(
    vllm: Installed, tmp_path: Path, model: str, config: dict[str, Any], said: str
) -> None:
    with pytest.raises(CannotStart, match=said):
        launched(vllm, tmp_path, model, **config)


def test_it_is_started_where_it_is_named(vllm: Installed, tmp_path: Path, model: str) -> None:
    options = {"trust-remote-code": "true"}
    launch = launched(vllm, tmp_path, model, options=options, allow_unsafe=("trust-remote-code",))
    assert launch.options["trust-remote-code"] is True


def test_an_option_that_a_dangerous_one_begins_with_is_itself(
    vllm: Installed, tmp_path: Path, model: str
) -> None:
    assert launched(vllm, tmp_path, model, options={"tokenizer": model}).options["tokenizer"] == model
    with pytest.raises(CannotStart, match="tokenizer-mode"):
        launched(vllm, tmp_path, model, options={"tokenizer-mode": "custom"})


def test_a_vllm_with_known_holes_is_not_started(tmp_path: Path, model: str) -> None:
    old = installed(tmp_path, "0.19.0")
    with pytest.raises(CannotStart, match=r"0\.19\.0 is older than 0\.26\.0"):
        launched(old, tmp_path, model)
    assert launched(old, tmp_path, model, allow_unsafe=("version",)).argv


def test_a_model_of_the_hub_is_pinned_to_a_commit(vllm: Installed, tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="name the commit"):
        launched(vllm, tmp_path, "Qwen/Qwen3-8B")
    launch = launched(vllm, tmp_path, "Qwen/Qwen3-8B", revision="abc123")
    assert launch.argv[-4:] == ("--revision", "abc123", "--tokenizer-revision", "abc123")
    assert "HF_HUB_OFFLINE" not in launch.environment


def test_every_reason_is_given_at_once(vllm: Installed, tmp_path: Path) -> None:
    with pytest.raises(CannotStart) as caught:
        launched(vllm, tmp_path, "some/model", options={"trust-remote-code": "true"})
    assert len(caught.value.problems) == 2


def test_options_that_this_release_does_not_have_are_left_out_of_profiles_and_said(
    tmp_path: Path, model: str
) -> None:
    older = installed(tmp_path, "0.26.0", KNOWN.replace("max_num_queued_reqs", "something_else"))
    launch = launched(older, tmp_path, model)
    assert launch.left_out == ("max-num-queued-reqs",)
    # One's own is given to vLLM all the same, which then says what is wrong with it.
    mine = launched(older, tmp_path, model, options={"max-num-queued-reqs": "7"})
    assert mine.options["max-num-queued-reqs"] == "7"


def test_profiles_are_taken_only_where_operators_may_and_have_an_end(
    vllm: Installed, tmp_path: Path, model: str
) -> None:
    assert "profiler-config" not in launched(vllm, tmp_path, model).options
    options = launched(vllm, tmp_path, model, profiles_to=tmp_path / "profiles").options
    assert options["profiler-config"]["max_iterations"] == 200
    assert options["profiler-config"]["torch_profiler_with_stack"] is False


def test_a_command_that_is_no_vllm_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled, match="not there"):
        find(str(tmp_path / "nothing"))
    with pytest.raises(NotInstalled, match="no environment"):
        find("true")


def test_the_command_shows_what_it_would_start(
    vllm: Installed, tmp_path: Path, model: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "bursar.yaml"
    monkeypatch.chdir(tmp_path)
    servers = {"qwen": {"model": model, "profile": ["low-latency"], "listen": "127.0.0.1:8123"}}
    inference = {"vllm": str(vllm.command), "servers": servers}
    config.write_text(yaml.safe_dump({"data_dir": str(tmp_path / "data"), "inference": inference}))

    assert main(["inference", "--config", str(config), "--print"]) == 0
    shown = capsys.readouterr().out
    assert f"serve {model} --config" in shown
    assert "max-num-seqs: 32" in shown

    assert main(["inference", "--config", str(config), "other"]) == 2
    servers["qwen"]["options"] = {"trust-remote-code": "true"}
    config.write_text(yaml.safe_dump({"inference": inference}))
    assert main(["inference", "--config", str(config)]) == 2
    assert "qwen: trust-remote-code" in capsys.readouterr().err
    assert main(["inference", "--profiles"]) == 0
    assert "speculative" in capsys.readouterr().out


def test_our_own_environment_is_the_default(vllm: Installed, tmp_path: Path, model: str) -> None:
    launch = launch_of("one", ServerConfig(model=model), vllm, tmp_path)
    assert launch.environment.get("PATH") == os.environ.get("PATH")
