"""One spelling for each path."""

import pytest

from sidecar.http.target import TargetError, is_host, split_target


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/v1/chat/completions", "/v1/chat/completions", ""),
        (b"/v1/models/", "/v1/models/", ""),
        (b"/v1/models?limit=1&after=a%2Fb", "/v1/models", "limit=1&after=a%2Fb"),
        (b"/v1/x?", "/v1/x", ""),
        (b"/v1/x?a?b", "/v1/x", "a?b"),
        (
            b"/v1beta/models/gemini-2.5-pro:generateContent",
            "/v1beta/models/gemini-2.5-pro:generateContent",
            "",
        ),
        (b"/model/anthropic.claude%3A0/invoke", "/model/anthropic.claude%3A0/invoke", ""),
        (b"/a/..b/.c/d.", "/a/..b/.c/d.", ""),
        (b"/deployments/<name>/chat", "/deployments/<name>/chat", ""),
    ],
)
def test_a_plain_target_is_split(target: bytes, path: str, query: str) -> None:
    assert split_target(target) == (path, query)


@pytest.mark.parametrize(
    "target",
    [
        b"*",
        b"",
        b"v1/models",
        b"http://evil/v1/models",
        b"https://127.0.0.1/v1",
        b"//evil/v1",
        b"//admin",
        b"/v1//models",
        b"/v1/../admin",
        b"/v1/..",
        b"/..",
        b"/.",
        b"/./v1",
        b"/v1/./models",
        b"/v1/%2e%2e/admin",
        b"/v1/%2E./admin",
        b"/v1/.%2e/admin",
        b"/v1%2fmodels",
        b"/v1%2Fmodels",
        b"/v1%5cmodels",
        b"/v1\\models",
        b"/v1/models;x",
        b"/v1;x/models",
        b"/v1/models%3bx",
        b"/v1/%61dmin",
        b"/v1/%00",
        b"/v1/%0d%0a",
        b"/v1/%7f",
        b"/v1/%c3%a9",
        b"/v1/%252e%252e/admin",
        b"/v1/%",
        b"/v1/%4",
        b"/v1/%zz",
        b"/v1/%3fx",
        b"/v1/%23x",
        b"/v1/\xc3\xa9",
        b"/v1/\x01",
        b"/v1/a b",
        b"/v1/a#b",
        b"/v1?a#b",
        b"/v1?a b",
        b"/v1?\xff",
        b'/v1/"x"',
        b"/v1/{x}",
    ],
    ids=repr,
)
def test_a_target_that_somebody_might_normalise_is_refused(target: bytes) -> None:
    with pytest.raises(TargetError):
        split_target(target)


@pytest.mark.parametrize("host", [b"x", b"127.0.0.1:4000", b"[::1]:4000", b"a-b.example.com", b"a_b:1"])
def test_a_host_is_recognised(host: bytes) -> None:
    assert is_host(host)


@pytest.mark.parametrize(
    "host",
    [b"", b"x/?", b"x#", b"a/..", b"a b", b"u@x", b"x:", b"x:port", b"[::1", b"x,y", b"\xc3", b"h" * 9000],
)
def test_what_is_not_a_host_is_not(host: bytes) -> None:
    assert not is_host(host)
