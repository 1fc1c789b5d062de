"""What `bursar up` says it found is so."""

from sidecar.commands.up import detected
from sidecar.config import load_config

UPSTREAMS = """
upstreams:
  openai: {kind: openai}
  held: {kind: openai, base_url: https://api.openai.com/v1, api_key: "file:key"}
  fixed: {kind: azure, base_url: https://x.openai.azure.com, headers: {API-Key: abc}}
  ollama: {kind: openai, base_url: http://127.0.0.1:11434/v1}
  local: {kind: vllm, replicas: [http://10.0.0.1:8000]}
"""


def keys_said(tmp_path) -> dict[str, str]:
    lines = [line.split(maxsplit=3) for line in detected(load_config(tmp_path / "bursar.yaml"))]
    return {words[1]: words[3].strip("()") for words in lines if words[0] == "upstream"}


def test_whose_key_goes_along_is_said_of_each_upstream(bursar, tmp_path):
    (tmp_path / "key").write_text("sk-abcdefgh")
    (tmp_path / "bursar.yaml").write_text(UPSTREAMS)

    passed_on = {"openai": "the agent's own key is passed on", "ollama": "the agent's own key is passed on"}
    always = {"held": "our key", "fixed": "our key", "local": "no key"}
    assert keys_said(tmp_path) == always | passed_on

    bursar("keys", "create")
    with_virtual_keys = {"openai": "no key: set api_key; callers use virtual keys", "ollama": "no key"}
    assert keys_said(tmp_path) == always | with_virtual_keys


def test_a_check_warns_of_an_upstream_that_no_call_brings_a_key(bursar, tmp_path):
    (tmp_path / "key").write_text("sk-abcdefgh")
    (tmp_path / "bursar.yaml").write_text(UPSTREAMS)
    assert "api_key" not in bursar("check").err

    bursar("keys", "create")

    said = "warning: upstreams.openai.api_key: is not set; callers use virtual keys, which are not passed on"
    assert [line for line in bursar("check").err.splitlines() if "api_key" in line] == [said]
