"""vLLM's own argument parser takes every profile, alone and over the common one; nothing is misspelt."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.stack import ROOT
from support.vllm_servers import VLLM, skip_without_vllm

from inference.installed import find
from inference.launch import launch_of
from inference.profiles import FOLDER, options_of, profile, profile_names
from inference.settings import ServerConfig

pytestmark = pytest.mark.vllm

PARSE = """
import json, sys
from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.engine.arg_utils import AsyncEngineArgs
parser = FlexibleArgumentParser()
command = ServeSubcommand()
command.subparser_init(parser.add_subparsers(dest="subparser"))
told = {}
for name, words in json.loads(sys.argv[1]).items():
    arguments = parser.parse_args(words)
    command.validate(arguments)
    engine = AsyncEngineArgs.from_cli_args(arguments)
    told[name] = {field: str(getattr(engine, field)) for field in vars(engine)}
    for field in ("model_tag", "host", "port", "max_num_queued_reqs", "headless"):
        told[name][field] = str(getattr(arguments, field))
print("TOLD" + json.dumps(told))
"""


SECOND = {"node-rank": "1", "master-addr": "10.0.0.1", "headless": "true"}
"""What its own machine says of the second half of a server over two."""


def second_machine(folder: Path) -> list[str]:
    """The command line that it is started with there."""
    config = ServerConfig(
        model="some-model", revision="abc", profile=("multi-node",), served_name="m", options=SECOND
    )
    launch = launch_of("second", config, find(VLLM), folder, environ={})
    launch.write()
    assert launch.left_out == ()
    return list(launch.argv[1:])


def composed(folder: Path) -> list[str]:
    """The command line of the composed service, with its options file in ``folder``."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    service = compose["services"]["vllm"]
    (config,) = service["configs"]
    options = folder / "options.yml"
    options.write_text(compose["configs"][config["source"]]["content"])
    assert service["entrypoint"] == ["vllm", "serve"]
    words = ["serve", *map(str, service["command"])]
    named = [re.sub(r"\$\{VLLM_MODEL:-(\w+)\}", r"\1", word) for word in words]
    return [str(options) if word == config["target"] else word for word in named]


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Every profile as written (its name), over the common one (its name and a plus), and as composed."""
    skip_without_vllm()
    folder = tmp_path_factory.mktemp("profiles")
    files = {name: FOLDER / f"{name}.yml" for name in (*profile_names(), "common")}
    for name in profile_names():
        files[f"{name}+"] = folder / f"{name}.yml"
        files[f"{name}+"].write_text(yaml.safe_dump(options_of([name], {})))
    lines = {name: ["serve", "some-model", "--config", str(path)] for name, path in files.items()}
    lines["composed"] = composed(folder)
    lines["second machine"] = second_machine(folder)
    python = str(Path(VLLM).parent / "python")
    ended = subprocess.run(
        [python, "-c", PARSE, json.dumps(lines)], capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    told: dict[str, dict[str, Any]] = json.loads(ended.stdout.rpartition("TOLD")[2])
    return told


@pytest.mark.parametrize("name", profile_names())
def test_the_engine_gets_what_the_profile_says(parsed: dict[str, dict[str, Any]], name: str) -> None:
    whole = options_of([name], {})
    assert parsed[f"{name}+"]["max_num_seqs"] == str(whole["max-num-seqs"])
    assert parsed[f"{name}+"]["max_num_queued_reqs"] == str(whole["max-num-queued-reqs"])
    for option, value in profile(name).items():
        field = option.replace("-", "_")
        if field not in parsed[name]:
            continue
        if isinstance(value, bool):
            assert parsed[name][field] == str(value), option
        elif isinstance(value, int | float):
            assert float(parsed[name][field]) == value, option


def test_the_kinds_of_numbers_arrive(parsed: dict[str, dict[str, Any]]) -> None:
    assert parsed["fp8"]["quantization"] == "fp8"
    assert parsed["awq"]["quantization"] == "awq"
    assert parsed["gptq"]["quantization"] == "gptq"
    assert parsed["fp8-kv"]["kv_cache_dtype"] == "fp8"
    assert "ngram" in parsed["speculative"]["speculative_config"]
    assert float(parsed["kv-offload"]["kv_offloading_size"]) == 32
    assert (parsed["multi-node"]["nnodes"], parsed["ray"]["distributed_executor_backend"]) == ("2", "ray")


def test_the_second_machine_of_a_server_is_told_its_place(parsed: dict[str, dict[str, Any]]) -> None:
    first, second = parsed["multi-node+"], parsed["second machine"]
    told = ("nnodes", "node_rank", "master_addr", "master_port", "headless")
    assert [first[name] for name in told] == ["2", "0", "127.0.0.1", "29501", "False"]
    assert [second[name] for name in told] == ["2", "1", "10.0.0.1", "29501", "True"]
    # Both have to cut the model in the same way.
    for name in ("tensor_parallel_size", "pipeline_parallel_size", "distributed_executor_backend"):
        assert first[name] == second[name], name


def test_the_composed_service_is_the_balanced_profile(parsed: dict[str, dict[str, Any]]) -> None:
    service = parsed["composed"]
    assert (service["model_tag"], service["served_model_name"]) == ("/models/model", "['model']")
    assert (service["host"], service["port"]) == ("0.0.0.0", "8000")
    named = {"model_tag", "served_model_name", "host", "port"}
    assert {name: value for name, value in service.items() if name not in named} == {
        name: value for name, value in parsed["balanced+"].items() if name not in named
    }


def test_no_option_is_unknown_to_this_vllm() -> None:
    skip_without_vllm()
    vllm = find(VLLM)
    for name in profile_names():
        assert vllm.without_unknown(options_of([name], {}))[1] == [], name
    assert not vllm.has("an-option-that-nobody-has")
