"""Estimates where nobody reports, and which paths can spend."""

import random

import pytest

from sidecar.wire import TokenRatios, spends
from sidecar.wire.estimate import default_ratio


def test_a_learned_ratio_is_within_five_percent_on_ordinary_text() -> None:
    chance = random.Random(7)
    ratios = TokenRatios()
    for _ in range(40):  # A tokenizer of 4.4 bytes a token, on texts that scatter by a tenth.
        tokens = chance.randint(50, 800)
        ratios.learn("m", round(tokens * chance.uniform(3.96, 4.84)), tokens)
    assert abs(ratios.estimate("m", 4400) - 1000) <= 50


def test_a_change_of_language_is_followed() -> None:
    ratios = TokenRatios()
    for _ in range(100):
        ratios.learn("m", 4000, 1000)
    for _ in range(100):
        ratios.learn("m", 2000, 1000)
    assert ratios.ratio("m") == pytest.approx(2.0, rel=0.06)


def test_nothing_is_learned_from_what_cannot_be_text() -> None:
    ratios = TokenRatios()
    ratios.learn("m", 10, 3)
    ratios.learn("m", 1000, 0)
    ratios.learn("m", 1000, 10_000)
    ratios.learn("m", 100_000, 10)
    assert ratios.ratio("m") == default_ratio("m")


def test_an_estimate_is_never_zero() -> None:
    assert TokenRatios().estimate("m", 0) == 1
    assert TokenRatios().estimate("gpt-5", 42) == 10  # 42 bytes at 4.2


def test_the_models_remembered_are_bounded_and_the_used_ones_stay() -> None:
    ratios = TokenRatios(capacity=2)
    ratios.learn("a", 400, 100)
    ratios.learn("b", 300, 100)
    ratios.estimate("a", 10)
    ratios.learn("c", 300, 100)
    assert len(ratios) == 2
    assert ratios.ratio("a") == 4.0
    assert ratios.ratio("b") == default_ratio("b")


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/v1/models", "free"),
        ("DELETE", "/v1/files/f", "free"),
        ("POST", "/v1/messages/count_tokens", "free"),
        ("POST", "/v1beta/models/gemini-2.5-flash:countTokens", "free"),
        ("POST", "/v1/responses/r_1/cancel", "free"),
        ("POST", "/v1/chat/completions", "metered"),
        ("POST", "/openai/v1/chat/completions?x=1", "metered"),
        ("POST", "/openai/deployments/d/chat/completions", "metered"),
        ("POST", "/v1/messages", "metered"),
        ("POST", "/v1/responses/", "metered"),
        ("POST", "/v1/embeddings", "metered"),
        ("POST", "/api/v1/services/aigc/text-generation/generation", "metered"),
        ("POST", "/api/v1/services/aigc/multimodal-generation/generation", "unmetered"),
        ("POST", "/v1beta/models/gemini-2.5-flash:generateContent", "metered"),
        ("POST", "/v1beta/models/gemini-2.5-flash-image:generateContent", "metered"),
        ("POST", "/v1/projects/p/locations/l/publishers/anthropic/models/claude:streamRawPredict", "metered"),
        ("POST", "/model/us.amazon.nova-lite-v1%3A0/converse-stream", "metered"),
        ("POST", "/v2/chat", "metered"),
        ("POST", "/api/generate", "metered"),
        ("POST", "/v1/images/generations", "unmetered"),
        ("POST", "/v1/audio/speech", "unmetered"),
        ("POST", "/v1/files", "unmetered"),
        ("POST", "/v1/batches", "unmetered"),
        ("POST", "/v1/messages/batches", "unmetered"),
        ("POST", "/v1/fine_tuning/jobs", "unmetered"),
        ("POST", "/v1/realtime/sessions", "unmetered"),
        ("POST", "/model/amazon.titan-image-generator-v1/invoke", "unmetered"),
        ("POST", "/v1beta/models/imagen-4:predict", "unmetered"),
        ("POST", "/v1beta/models/veo-3:predictLongRunning", "unmetered"),
        ("POST", "/v2/rerank", "unmetered"),
        ("PUT", "/v1/anything", "unmetered"),
        ("POST", "/", "unmetered"),
        ("POST", "/v1/images/../chat/completions", "unmetered"),
        ("POST", "/v1//messages", "unmetered"),
        ("POST", "/v1/audio/speech%2fchat/completions", "unmetered"),
        ("POST", "/v1/batches;/v1/messages", "unmetered"),
    ],
)
def test_a_path_spends_seen_or_unseen_or_not_at_all(method: str, path: str, kind: str) -> None:
    assert spends(method, path) == kind
