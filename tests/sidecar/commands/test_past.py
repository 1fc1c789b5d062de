"""The made-up past of the demonstration."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from collector.domain.price import list_cost
from collector.domain.usage import Usage
from collector.journal import FrameKind, decode_record, read_frames, segments
from collector.pricing.book import PriceBook
from sidecar.commands.past import write_past
from sidecar.config import load_config

CONFIG = """
upstreams:
  openai: {kind: openai}
  anthropic: {kind: anthropic}
  local: {kind: vllm, replicas: ["http://127.0.0.1:9"]}
models: {qwen3-8b: {upstream: local}}
prices: {qwen3-8b: {input: 0.05, output: 0.20}}
"""


def test_the_past_is_days_of_priced_calls_that_say_they_are_simulated(tmp_path: Path) -> None:
    file = tmp_path / "bursar.yaml"
    file.write_text(CONFIG + f"data_dir: {tmp_path / 'data'}\n")
    config = load_config(file, {})

    count = write_past(config, days=3, seed=7)

    frames = [
        frame
        for segment in segments(config.journal_dir)
        for frame in read_frames(segment.path, 0, 1 << 30)[0]
    ]
    calls = [decode_record(frame.payload) for frame in frames if frame.kind == FrameKind.RECORD]
    assert len(calls) == count > 1000
    assert all(call.tags["simulated"] == "true" for call in calls)
    now_us = datetime.now(UTC).timestamp() * 1e6
    ages = [(now_us - call.started_at_us) / 86_400e6 for call in calls]
    assert 2.5 < max(ages) <= 3.01
    assert min(ages) >= 1 / 24
    assert Counter(call.upstream for call in calls).keys() == {"openai", "anthropic", "local"}
    book = PriceBook.load(config.prices)
    for call in calls[:50]:
        usage = Usage(
            input_tokens=call.input_tokens,
            output_tokens=call.output_tokens,
            cache_read_input_tokens=call.cache_read_input_tokens,
            cache_write_input_tokens=call.cache_write_input_tokens,
            cache_write_1h_input_tokens=call.cache_write_1h_input_tokens,
            reasoning_output_tokens=call.reasoning_output_tokens,
        )
        quote = book.quote(call.provider_name, call.request_model, call.started_at_us)
        assert call.list_cost_pico == list_cost(usage, quote.price)
    assert any(frame.kind == FrameKind.EVENT for frame in frames)
