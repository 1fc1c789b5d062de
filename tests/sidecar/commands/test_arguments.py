"""What cannot be meant is refused as it is typed, in words that say what would have been right."""

import pytest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("demo --speed 0", "argument --speed: '0' is not a number above zero"),
        ("demo --speed nan", "argument --speed: 'nan' is not a number above zero"),
        ("demo --rate -5", "argument --rate: '-5' is not a number above zero"),
        ("demo --rate many", "argument --rate: 'many' is not a number"),
        ("demo --for soon", "argument --for: 'soon' is not a duration; write 250ms, 30s, 5m, 24h or 7d"),
        ("top --every 0s", "argument --every: '0s' is no time at all; write 30s, 5m, 24h or 7d"),
        ("budgets raise b 5USD --for x", "argument --for: 'x' is not a duration; write 250ms"),
        ("profile sidecar --for x", "argument --for: 'x' is not a duration; write 250ms"),
        ("inference --listen 80", "argument --listen: '80' is not host:port"),
        ("keys create --expires 0s", "argument --expires: '0s' is no time at all"),
        ("keys create --expires soon", "argument --expires: 'soon' is not a duration"),
        ("keys create --expires 9999999d", "argument --expires: '9999999d' is too long; at most 36500d"),
        ("keys create --tag foo", "argument --tag: 'foo': write NAME=VALUE"),
        ("keys create --tag =x", "argument --tag: '=x': write NAME=VALUE"),
        ("budgets simulate --model m --tag foo", "argument --tag: 'foo': write NAME=VALUE"),
        ("report --where =x", "--where '=x': write DIM=VALUE"),
    ],
)
def test_it_is_refused_before_anything_is_done(bursar, tmp_path, words, said):
    ran = bursar(*words.split())

    assert ran.code == 2
    assert said in ran.err
    assert list(tmp_path.iterdir()) == []
