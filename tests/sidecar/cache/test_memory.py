"""Answers in this process: what leaves when there is no room."""

from sidecar.cache.key import Key
from sidecar.cache.memory import MemoryStore
from tests.sidecar.cache.conftest import entry_with


def key(number: int) -> Key:
    return Key(b"s" * 16, number.to_bytes(20))


def test_an_answer_whose_time_is_over_is_gone() -> None:
    store = MemoryStore(1 << 20)
    store.put(key(1), entry_with(expires_at=2000.0))
    assert store.get(key(1), 1999.9) is not None
    assert store.get(key(1), 2000.0) is None
    assert (len(store), store.size) == (0, 0)


def test_the_room_is_never_exceeded_and_what_saves_least_leaves_first() -> None:
    size = entry_with().size
    store = MemoryStore(10 * size, seed=1)
    for number in range(10):
        store.put(key(number), entry_with(cost_pico=1000 * (number + 1)))
    store.put(key(10), entry_with(cost_pico=5500))
    assert store.size == 10 * size
    assert store.get(key(0), 1001.0) is None  # The cheapest of the ten; all were compared.
    assert store.get(key(10), 1001.0) is not None


def test_what_was_not_asked_for_in_long_leaves_before_what_costs_as_much() -> None:
    size = entry_with().size
    store = MemoryStore(4 * size)
    for number, asked in enumerate((1000.0, 100.0, 1000.0, 1000.0)):
        store.put(key(number), entry_with(last_asked_at=asked))
    store.put(key(9), entry_with())
    assert store.get(key(1), 1001.0) is None


def test_an_answer_larger_than_a_quarter_of_the_room_is_not_kept() -> None:
    store = MemoryStore(8000)
    store.put(key(1), entry_with(body=b"x" * 2000))
    assert len(store) == 0


def test_removing_any_answer_leaves_the_others_in_place() -> None:
    store = MemoryStore(1 << 20)
    for number in range(5):
        store.put(key(number), entry_with(tenant=str(number)))
    assert store.purge(lambda entry: entry.tenant in ("0", "2", "4")) == [key(n) for n in (0, 2, 4)]
    assert [store.get(key(number), 1001.0) is not None for number in range(5)] == [
        False, True, False, True, False,
    ]  # fmt: skip
    store.purge(lambda entry: True)
    assert (len(store), store.size) == (0, 0)
