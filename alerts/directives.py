"""What an alert may do to calls, and how it is undone.

A policy says which alert may ask for what. :func:`steps` compares what should be with what stands, and
says what to do; it is a function of its arguments. :class:`Controls` then asks the sidecars. Four things
keep this safe: nothing is done unless a policy says so, and then only on paper (``dry_run``) until it is
told otherwise; a match is never empty; everything expires by itself if we fall; and there is a limit to
how much may be in force, however many alerts fire. A silenced alert starts nothing new: a person has it.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

import httpx

from alerts.engine import Tracked
from alerts.settings import ActionPolicy
from alerts.signals import Labels
from collector import logs

TIMEOUT_S = 5.0
SOURCE = "alerts"

_log = logs.get("alerts.directives")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A directive that we raised, or said that we would."""

    alert: Labels
    do: str
    match: Mapping[str, str]
    expires_at: float
    """Seconds since 1970."""
    dry_run: bool
    options: Mapping[str, Any] = field(default_factory=dict)
    """What else the sidecar is told: ``per_minute`` of a throttle, ``to`` of a downgrade."""
    ids: Mapping[str, str] = field(default_factory=dict)
    """By sidecar's control address, what it calls the directive."""

    @property
    def name(self) -> tuple[Labels, str, Labels]:
        """Names it among all: one alert asks for one thing once."""
        return self.alert, self.do, tuple(sorted(self.match.items()))

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "alert": [list(pair) for pair in self.alert],
            "do": self.do,
            "match": dict(self.match),
            "expires_at": self.expires_at,
            "dry_run": self.dry_run,
            "options": dict(self.options),
            "ids": dict(self.ids),
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Standing":
        """The same again.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        return cls(
            alert=tuple((str(name), str(value)) for name, value in given["alert"]),
            do=str(given["do"]),
            match={str(name): str(value) for name, value in given["match"].items()},
            expires_at=float(given["expires_at"]),
            dry_run=bool(given["dry_run"]),
            options=dict(given["options"]),
            ids={str(url): str(found) for url, found in given["ids"].items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do now."""

    kind: Literal["raise", "renew", "withdraw", "expire", "refuse"]
    """``refuse`` is a directive that a policy wants and the limit forbids: it is only said."""
    standing: Standing
    reason: str = ""


def steps(
    alerts: Iterable[Tracked],
    policies: Sequence[ActionPolicy],
    standing: Sequence[Standing],
    *,
    silenced: Set[Labels],
    now: float,
    most: int,
) -> list[Step]:
    """What to do so that the directives in force are those that the firing alerts may ask for.

    Args:
        alerts: every alert.
        policies: what they may ask for.
        standing: what is in force, or on paper.
        silenced: alerts that somebody has silenced.
        now: seconds since 1970.
        most: directives in force at once.
    """
    found: list[Step] = []
    wanted = {item.name: (item, tracked, policy) for item, tracked, policy in _wanted(alerts, policies, now)}
    known = {item.name: item for item in standing}
    for name, item in known.items():
        if name not in wanted or wanted[name][0].dry_run is not item.dry_run:
            expired = now >= item.expires_at
            found.append(Step(kind="expire" if expired else "withdraw", standing=item, reason="resolved"))
    in_force = sum(1 for name in known if name in wanted)
    for name, (item, tracked, policy) in wanted.items():
        old = known.get(name)
        if old is not None and old.dry_run is item.dry_run:
            if old.expires_at - now < float(policy.expires) / 2:
                found.append(Step(kind="renew", standing=item, reason=reason_of(tracked)))
        elif tracked.key in silenced:
            continue
        elif in_force >= most:
            found.append(Step(kind="refuse", standing=item, reason=f"{most} directives are in force"))
        else:
            in_force += 1
            found.append(Step(kind="raise", standing=item, reason=reason_of(tracked)))
    return found


def _wanted(
    alerts: Iterable[Tracked], policies: Sequence[ActionPolicy], now: float
) -> Iterable[tuple[Standing, Tracked, ActionPolicy]]:
    for tracked in alerts:
        if not tracked.alert.firing:
            continue
        for policy in policies:
            match = {name: tracked.labels.get(name, "") for name in policy.match}
            if (
                policy.on == tracked.name
                and all(match.values())
                and tracked.usd_per_hour >= Decimal(str(policy.min_usd_per_hour))
                and now - tracked.alert.fired_at >= policy.after
            ):
                item = Standing(
                    alert=tracked.key,
                    do=policy.do,
                    match=match,
                    expires_at=now + policy.expires,
                    dry_run=policy.dry_run,
                    options=options_of(policy),
                )
                yield item, tracked, policy


def options_of(policy: ActionPolicy) -> dict[str, Any]:
    """What the sidecar is told besides the action, as its control plane names it."""
    told: dict[str, Any] = {"per_minute": policy.per_minute, "to": list(policy.to)}
    return {name: value for name, value in told.items() if value}


def reason_of(tracked: Tracked) -> str:
    """Why, in one line, for the sidecar's own log and the audit."""
    return f"{tracked.name} ({tracked.id}): {tracked.annotations.get('summary', '')}"[:300]


# ---- at the edge ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A step and what became of it."""

    step: Step
    ok: bool
    standing: Standing | None
    """What stands after it; None when nothing does."""
    detail: str = ""


class Controls:
    """The control planes of the sidecars.

    Args:
        urls: their addresses.
        client: carries the control key.
    """

    def __init__(self, urls: Sequence[str], client: httpx.AsyncClient) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self._client = client

    async def do(self, step: Step, now: float, old: Standing | None) -> Done:
        """Do one step at every sidecar; on paper, do nothing and say so."""
        item = step.standing
        if step.kind == "refuse":
            return Done(step=step, ok=False, standing=None, detail=step.reason)
        if step.kind == "expire":
            return Done(step=step, ok=True, standing=None, detail="it expired by itself")
        if item.dry_run:
            return Done(step=step, ok=True, standing=None if step.kind == "withdraw" else item)
        if step.kind == "withdraw":
            return await self._withdraw(step)
        return await self._raise(step, now, old)

    async def _raise(self, step: Step, now: float, old: Standing | None) -> Done:
        item = step.standing
        body = {
            "action": item.do,
            "match": dict(item.match),
            "expires_in_s": round(item.expires_at - now),
            "reason": step.reason,
            "source": SOURCE,
            **item.options,
        }
        answers = await asyncio.gather(*(self._post(url, body) for url in self._urls))
        ids = {url: found for url, (found, _) in zip(self._urls, answers, strict=True) if found}
        trouble = "; ".join(said for _, said in answers if said)
        if not ids:
            return Done(step=step, ok=False, standing=old, detail=trouble or "no sidecar is known")
        if old is not None:
            # The new one is in force before the old one goes: there is no moment without either.
            await asyncio.gather(*(self._delete(url, found) for url, found in old.ids.items()))
        standing = replace(item, ids=ids)
        return Done(step=step, ok=True, standing=standing, detail=trouble)

    async def _withdraw(self, step: Step) -> Done:
        item = step.standing
        answers = await asyncio.gather(*(self._delete(url, found) for url, found in item.ids.items()))
        left = {url: item.ids[url] for url, said in zip(item.ids, answers, strict=True) if said}
        if not left:
            return Done(step=step, ok=True, standing=None)
        # It is tried again at the next look, until it expires by itself.
        standing = replace(item, ids=left)
        return Done(step=step, ok=False, standing=standing, detail="; ".join(filter(None, answers)))

    async def _post(self, url: str, body: Mapping[str, Any]) -> tuple[str, str]:
        """The id of the new directive, or what went wrong."""
        try:
            reply = await self._client.post(f"{url}/bursar/v1/directives", json=body, timeout=TIMEOUT_S)
            if reply.status_code in (200, 201):
                return str(reply.json()["id"]), ""
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            return "", f"{url}: {type(error).__name__}"
        return "", f"{url}: {reply.status_code} {reply.text[:200]}"

    async def _delete(self, url: str, found: str) -> str:
        """What went wrong; "" when it is gone. One that is not there any more is gone."""
        try:
            reply = await self._client.delete(f"{url}/bursar/v1/directives/{found}", timeout=TIMEOUT_S)
        except httpx.HTTPError as error:
            return f"{url}: {type(error).__name__}"
        return "" if reply.status_code in (200, 202, 204, 404) else f"{url}: {reply.status_code}"


def logged(done: Done) -> None:
    """One line for each thing done, or not done."""
    item = done.step.standing
    write = _log.warning if done.ok else _log.error
    write(
        f"directive {done.step.kind}{' (dry run)' if item.dry_run else ''}",
        action=item.do,
        alert=dict(item.alert).get("alertname", ""),
        directive=",".join(f"{name}={value}" for name, value in sorted(item.match.items())),
        reason=done.detail or done.step.reason,
    )
