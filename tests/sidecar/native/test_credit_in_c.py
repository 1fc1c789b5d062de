"""A ledger whose claims and charges are counted in C stands as Python's does, whatever befalls it."""

from random import Random

import pytest

from collector.domain.credit import Claim, Counter, Unit
from sidecar.budgets.ledger import Ledger
from sidecar.native import native

pytestmark = pytest.mark.skipif(native is None, reason="the extension in C is not built here")

LIMITS = [0, 40, 1000, 9_000_000 * 10**9]
COUNTERS = [
    Counter(f"b{number}", "s", "", "total", Unit.USD, LIMITS[number % 4], 0, None, 60 if number == 7 else 0)
    for number in range(8)
]


def claims_of(random: Random) -> tuple[Claim, ...]:
    """Mostly ordinary ones; sometimes a new limit, one counter twice, a negative amount, a huge one."""
    found = []
    for counter in random.sample(COUNTERS, random.randint(0, 4)):
        if random.random() < 0.05:
            counter = counter._replace(limit=random.choice(LIMITS))
        elif random.random() < 0.05:
            counter = Counter(*counter)
        found.append(Claim(counter, random.choice([0, 1, 7, 25, 10**12, 10**15])))
    if found and random.random() < 0.05:
        found.append(random.choice([found[0], Claim(COUNTERS[3], -1), Claim(COUNTERS[3], 1 << 70)]))
    return tuple(found)


def stand(ledger: Ledger) -> object:
    """All that a ledger knows."""
    accounts = {
        identity: (one.counter, one.spent, one.held, one.unsettled, one.buckets, one.touched)
        for identity, one in ledger.accounts.items()
    }
    leases = {
        name: ([(one.counter, *held) for one, held in lease.holds.items()], lease.expires_us, lease.expired)
        for name, lease in ledger.leases.items()
    }
    return accounts, leases


def outcome(ledger: Ledger, deed: str, lease: str, claims: tuple[Claim, ...], now: int) -> object:
    """What a deed came to, also where that is an error."""
    try:
        if deed == "reserve":
            return ledger.reserve(lease, claims, now, 100)
        if deed == "extend":
            return ledger.extend(lease, claims, now, 100)
        if deed == "reap":
            return ledger.reap(now)
        if deed == "forget":
            return ledger.forget(now)
        return ledger.finish(lease, list(claims))
    except ValueError as error:
        return type(error), str(error)


@pytest.mark.parametrize("seed", range(12))
def test_both_stand_alike(seed: int) -> None:
    random = Random(seed)
    both = Ledger(), Ledger(None)
    held: dict[str, tuple[Claim, ...]] = {}
    for now in range(150):
        deed = random.choice(["reserve"] * 6 + ["extend", "reap", "forget"] + ["finish"] * 5)
        lease = f"l{random.randint(0, 20)}"
        claims = claims_of(random)
        if deed == "finish" and random.random() < 0.8:
            claims = tuple([Claim(counter, random.randint(-1, 30)) for counter, _ in held.get(lease, ())])
        if deed == "reserve":
            held[lease] = claims
        first, second = (outcome(ledger, deed, lease, claims, now * 10) for ledger in both)
        assert first == second
        assert stand(both[0]) == stand(both[1])


def test_ordinary_claims_and_charges_are_counted_in_c() -> None:
    assert native is not None
    ledger = Ledger(None)
    claims = (Claim(COUNTERS[3], 10**15), Claim(COUNTERS[2], 25))
    assert native.claimed(ledger.accounts, claims) is None  # nobody knows them yet
    ledger.finish("", claims)
    taken, rooms = native.claimed(ledger.accounts, claims)
    assert rooms == (LIMITS[3] - 2 * 10**15, 950)
    assert [(one.held, one.touched, held) for one, held in taken.items()] == [
        (10**15, True, (10**15, 0)),
        (25, True, (25, 0)),
    ]
    assert native.charged(taken, [Claim(COUNTERS[3], 5), Claim(COUNTERS[2], 30)])
    assert [(one.held, one.spent) for one in taken] == [(0, 10**15 + 5), (0, 55)]


@pytest.mark.parametrize(
    "actuals", [[], [Claim(COUNTERS[2], 1)], [Claim(COUNTERS[3], -1)], [(1, 2)], (Claim(COUNTERS[3], 1),)]
)
def test_what_is_out_of_the_ordinary_changes_nothing(actuals: list[Claim]) -> None:
    assert native is not None
    ledger = Ledger(None)
    ledger.finish("", [Claim(COUNTERS[3], 1)])
    taken, _ = native.claimed(ledger.accounts, (Claim(COUNTERS[3], 9),))
    assert not native.charged(taken, actuals)
    assert native.claimed(ledger.accounts, (Claim(COUNTERS[3], 1), Claim(COUNTERS[3], 1))) is None
    [account] = taken
    assert (account.held, account.spent) == (9, 1)


@pytest.mark.parametrize("given", [(), ({},), ([], ()), ({}, (), 1)])
def test_what_is_no_claim_is_refused(given: tuple[object, ...]) -> None:
    assert native is not None
    for function in (native.claimed, native.charged):
        with pytest.raises(TypeError):
            function(*given)
