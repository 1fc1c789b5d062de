"""What ``GET /metrics`` tells: the families of a vLLM server that we read, over simulated models.

Only models that a vLLM server would serve are counted, so that a simulator which also plays hosted providers
does not pass their tokens off as its own engine's. There is no step, so none is told of; a KV cache where
there is one (``--kv-blocks``).
"""

from collections.abc import Mapping

from inference.simulator.kv_blocks import KvBlocks

OWNER = "vllm"
"""Of the model profiles that are counted."""

_COUNTERS = (
    ("vllm:prompt_tokens_total", "input_tokens", "Prompt tokens."),
    ("vllm:prompt_tokens_cached_total", "cache_read_input_tokens", "Prompt tokens that a cache supplied."),
    ("vllm:generation_tokens_total", "output_tokens", "Tokens produced."),
)


def exposition(
    tokens: Mapping[str, Mapping[str, int]], running: int, started_at: float, kv: KvBlocks | None = None
) -> bytes:
    """Prometheus text (0.0.4).

    Args:
        tokens: sums by model and class, of models to count.
        running: calls to these models under way; none ever waits.
        started_at: when the simulator began, seconds since the epoch.
        kv: the prefix cache, where it has one.
    """
    lines = [
        "# HELP bursar_simulator_info 1: everything here is simulated; no model runs.",
        "# TYPE bursar_simulator_info gauge",
        "bursar_simulator_info 1",
        "# TYPE process_start_time_seconds gauge",
        f"process_start_time_seconds {started_at:.3f}",
    ]
    for name, kind, text in _COUNTERS:
        lines += [f"# HELP {name} {text} [simulated]", f"# TYPE {name} counter"]
        lines += [
            f'{name}{{model_name="{model}",engine="0"}} {sums.get(kind, 0)}' for model, sums in tokens.items()
        ]
    model = next(iter(tokens), "simulated")
    for name, value in (("vllm:num_requests_running", running), ("vllm:num_requests_waiting", 0)):
        lines += [f"# TYPE {name} gauge", f'{name}{{model_name="{model}",engine="0"}} {value}']
    if kv is not None:
        for name, value in (("queries", kv.queries), ("hits", kv.hits)):
            family = f"vllm:prefix_cache_{name}_total"
            lines += [f"# TYPE {family} counter", f'{family}{{model_name="{model}",engine="0"}} {value}']
        lines += [
            "# TYPE vllm:cache_config_info gauge",
            f'vllm:cache_config_info{{block_size="{kv.block_tokens}",num_gpu_blocks="{kv.blocks}",'
            f'kv_cache_size_tokens="{kv.blocks * kv.block_tokens}",'
            f'enable_prefix_caching="True",engine="0"}} 1',
        ]
    return ("\n".join(lines) + "\n").encode()
