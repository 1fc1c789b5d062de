"""The runaway breaker: follows each conversation by its digests, and stops one that runs in circles.

What is said of a conversation is worked out by :mod:`collector.domain.runaway`. What is done about it is a
directive for that one conversation, so that it holds in every sidecar, outlives a restart, and ends when
somebody takes it back: `bursar budgets resume`, or the signed link that the refusal carries.
"""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from collector.domain.money import usd_text
from collector.domain.policy import Directive, DirectiveKind, Match
from collector.domain.policy.wording import time_text
from collector.domain.record import CallRecord, Outcome
from collector.domain.runaway import FLAG_AT, HUNDRED, STOP_AT, Habits, Step, Track, observe, reason
from collector.domain.stitching import Via
from collector.domain.stitching_rules import BITS, CHAIN
from sidecar.budgets.configured import RunawayConfig
from sidecar.budgets.credit import CreditControl
from sidecar.budgets.telling import ask_by
from sidecar.call import Call
from sidecar.clock import now_us
from sidecar.errors import OutOfBudget

RULE = "runaway"
RESUME = "/bursar/v1/resume"
MOST_TRACKS = 1_500
"""Conversations that are followed; about 800 bytes each."""
MOST_AGENTS = 256

Key = tuple[str, str]
"""Tenant and conversation."""


_SERVED, _NEW = Outcome.SERVED, Via.NEW


class Stop(NamedTuple):
    """A conversation that may not go on."""

    id: str
    until_us: int
    why: str


class RunawayBreaker:
    """Told of every call's end; asked before every call.

    Args:
        config: what to do about runaways.
        control: keeps directives, and writes down what is done.
        secret: signs the links; asked for at the first refusal.
        listen: where agents find us, for the links.
    """

    def __init__(
        self, config: RunawayConfig, control: CreditControl, *, secret: Callable[[], bytes], listen: str
    ) -> None:
        self.follow_config(config)
        self._control = control
        self._secret = secret
        self._listen = listen
        self._tracks: OrderedDict[Key, Track] = OrderedDict()
        self._flagged: OrderedDict[Key, None] = OrderedDict()
        self._habits: OrderedDict[Key, Habits] = OrderedDict()
        self._stopped: dict[Key, Stop] = {}
        self._followed = -1

    def follow_config(self, config: RunawayConfig) -> None:
        """Do from now on what ``config`` says."""
        self._config = config
        self._match = config.match.match()
        self._never = [item.match() for item in config.never_for]
        self._later = int(config.score * HUNDRED) - STOP_AT
        self.is_on = config.action != "off"

    # -- before a call

    def check(self, call: Call) -> None:
        """Let ``call`` pass unless its conversation is stopped; note what room it has.

        Raises:
            OutOfBudget: its conversation is stopped; says why, and how it may go on.
        """
        if self._control.orders.followed != self._followed:
            self._follow()
        caller = call.caller
        key = (caller.tenant, caller.conversation)
        if self._stopped and (stop := self._stopped.get(key)) is not None and stop.until_us > now_us():
            raise OutOfBudget(self._told(call, stop), code="runaway_paused")
        track = self._tracks.get(key)
        if track is not None and track.score >= HUNDRED:
            call.notice = self._room(key, track, caller.agent)

    def _room(self, key: Key, track: Track, agent: str) -> bytes:
        """What the agent is told: how near it is to being stopped."""
        limit = self._limit(key[0], agent)
        left = max(0, limit - track.score)
        each = max(HUNDRED, track.suspicion // max(1, track.stale))
        said = f"score={track.score / HUNDRED:.2f}; stops-at={limit / HUNDRED:.2f}"
        return f"{said}; steps-left={-(-left // each)}; action={self._config.action}".encode()

    def _limit(self, tenant: str, agent: str) -> int:
        habits = self._habits.get((tenant, agent))
        return max(HUNDRED, STOP_AT + self._later + (habits.allowance() if habits is not None else 0))

    def _told(self, call: Call, stop: Stop) -> str:
        conversation = call.caller.conversation
        link = f"http://{self._listen}{self.link(stop.id, stop.until_us)}"
        return (
            f"conversation {conversation!r} is stopped until {time_text(stop.until_us)}: {stop.why}. "
            f"Whoever runs this agent can let it go on: bursar budgets resume {conversation}, or open {link}"
        )

    # -- after a call

    def settle(self, call: Call) -> None:
        """``call`` has ended: take up what it did."""
        placement, reply, facts = call.placement, call.reply_facts, call.facts
        if placement is None or reply is None or facts is None or call.outcome is not _SERVED:
            return
        caller = call.caller
        key = (caller.tenant, caller.conversation)
        track = self._tracks.get(key)
        if track is None:
            if placement.via is _NEW and not reply.tool_call_hashes:
                return  # A question and its answer; most never go on.
            track = self._begin(key, caller.agent)
        else:
            self._tracks.move_to_end(key)
        step = Step(
            reply.tool_call_hashes,
            reply_digest(facts.message_hashes, reply.last_message_hash),
            facts.input_role,
            facts.input_hash,
            facts.tool_errors,
            placement.state,
            call.attempts[-1].usage.input_tokens if call.attempts else 0,
            sum([attempt.cost_pico for attempt in call.attempts]),
        )
        weight = observe(track, step)
        habits = self._habits_of(caller.tenant, caller.agent)
        if not track.steps & (track.steps - 1):
            habits.reached(track)
        if (weight or track.off_path) and track.score >= FLAG_AT and key not in self._stopped:
            self._act(call, key, track, habits)

    def _begin(self, key: Key, agent: str) -> Track:
        track = self._tracks[key] = Track(agent)
        if len(self._tracks) > MOST_TRACKS:
            old, forgotten = self._tracks.popitem(last=False)
            self._flagged.pop(old, None)
            self._habits_of(old[0], forgotten.agent).ended(forgotten)
        return track

    def _habits_of(self, tenant: str, agent: str) -> Habits:
        key = (tenant, agent)
        habits = self._habits.get(key)
        if habits is None:
            habits = self._habits[key] = Habits()
            if len(self._habits) > MOST_AGENTS:
                self._habits.popitem(last=False)
        return habits

    def _act(self, call: Call, key: Key, track: Track, habits: Habits) -> None:
        ask = ask_by(call)
        if not self._match.accepts(ask) or any(match.accepts(ask) for match in self._never):
            return
        limit = max(HUNDRED, STOP_AT + self._later + habits.allowance())
        why = reason(track)
        detail = (
            f"conversation {key[1]}: {why} (score {track.score / HUNDRED:.2f} of {limit / HUNDRED:.2f}, "
            f"{track.steps} steps, {usd_text(track.spent_pico)} USD)"
        )
        if key not in self._flagged and track.score >= min(FLAG_AT, limit):
            self._flagged[key] = None
            self._control.note(call, RULE, "flag", detail)
        action = self._config.action
        # A star in a conversation's name would stand for others as well.
        if action == "flag" or track.score < limit or not key[1] or "*" in key[1]:
            return
        now = now_us()
        directive = Directive(
            id=directive_id(key),
            kind=DirectiveKind(action),
            match=match_of(key),
            expires_us=now + int(self._config.lasts * 1_000_000),
            reason=f"{why}; {track.steps} steps cost {usd_text(track.spent_pico)} USD",
            source=RULE,
            created_us=now,
        )
        if any(one.id == directive.id for one in self._control.state.directives(now)):
            return
        try:
            self._control.orders.add_directive(directive, tell=False)
        except ValueError as error:
            self._control.note(call, RULE, "failed", f"{detail}: {error}")
            return
        self._control.note(call, RULE, action, detail)
        self._follow()

    # -- stopping and going on

    def _follow(self) -> None:
        """Take up which conversations are stopped, and forgive those that were let go."""
        orders, now = self._control.orders, now_us()
        orders.follow()
        self._followed = orders.followed
        stopped: dict[Key, Stop] = {}
        for one in self._control.state.directives(now):
            if one.source == RULE and one.kind is not DirectiveKind.DOWNGRADE:
                key = (one.match.only("tenant"), one.match.only("conversation"))
                stopped[key] = Stop(one.id, one.expires_us, one.reason)
        for key, stop in self._stopped.items():
            track = self._tracks.get(key)
            if key not in stopped and track is not None:
                track.forgive()
                self._flagged.pop(key, None)
                if stop.until_us > now:
                    self._habits_of(key[0], track.agent).tolerate()
        self._stopped = stopped

    def stopped(self) -> list[dict[str, str]]:
        """The conversations that are stopped, for people."""
        self._follow()
        return [
            {
                "id": stop.id,
                "tenant": tenant,
                "conversation": conversation,
                "until": time_text(stop.until_us),
                "reason": stop.why,
            }
            for (tenant, conversation), stop in self._stopped.items()
        ]

    def resume(self, name: str, by: str) -> int:
        """Let go on whatever is stopped under this conversation or directive id; how many that were."""
        found = [one for one in self.stopped() if name in (one["conversation"], one["id"])]
        for one in found:
            self._control.orders.remove(one["id"])
            self._control.note(None, RULE, "resume", f"conversation {one['conversation']}: by {by}")
        self._follow()
        return len(found)

    def link(self, name: str, until_us: int) -> str:
        """Path and query of a page that lets a conversation go on, for whoever holds them."""
        return f"{RESUME}?id={name}&until={until_us}&sig={self._signed(name, until_us)}"

    def holds(self, name: str, until: str, signature: str) -> bool:
        """Whether a link is ours and still valid."""
        if not until.isdecimal() or len(until) > 18 or int(until) <= now_us():
            return False
        return hmac.compare_digest(self._signed(name, int(until)).encode(), signature.encode())

    def _signed(self, name: str, until_us: int) -> str:
        said = f"resume\n{name}\n{until_us}".encode()
        return hmac.new(self._secret(), said, hashlib.sha256).hexdigest()[:32]

    def page(self, name: str) -> bytes:
        """The page behind a valid link: what is stopped, and a button."""
        found = next((one for one in self.stopped() if one["id"] == name), None)
        if found is None:
            return _PAGE % b"<p>Nothing is stopped here any more.</p>"
        from html import escape  # A page that hardly anybody opens brings two thousand names of characters.

        which, why = escape(found["conversation"]), escape(found["reason"])
        said = f"<p>Conversation <b>{which}</b> is stopped: {why}.</p>"
        return _PAGE % f'{said}<form method="post"><button>Let it go on</button></form>'.encode()

    # -- after a restart

    def recall(self, records: Iterable[CallRecord]) -> None:
        """Take up again what the journal knows of the latest calls, oldest first; nothing is done."""
        for record in records:
            if not record.conversation_id or record.outcome != Outcome.SERVED:
                continue
            key = (record.tenant, record.conversation_id)
            track = self._tracks.get(key)
            if track is None:
                if len(record.message_hashes) < 3 and not record.tool_call_hashes:
                    continue
                track = self._begin(key, record.agent)
            observe(track, step_of(record))
            if not track.steps & (track.steps - 1):
                self._habits_of(record.tenant, record.agent).reached(track)


_PAGE = b"""<!doctype html><meta charset="utf-8"><title>Bursar</title>
<body style="font-family: sans-serif; max-width: 40em; margin: 4em auto">%s"""


def step_of(record: CallRecord) -> Step:
    """A call of the past as a step of its conversation."""
    return Step(
        record.tool_call_hashes,
        reply_digest(record.message_hashes, record.last_message_hash),
        record.input_role,
        record.input_hash,
        record.tool_errors,
        record.message_hashes[-1] if record.message_hashes else 0,
        record.input_tokens,
        record.effective_cost_pico,
    )


def reply_digest(hashes: list[int], last: int) -> int:
    """What tells a reply from others, whatever it replies to."""
    return (last - hashes[-1] * CHAIN) & BITS if last and hashes else 0


def directive_id(key: Key) -> str:
    """The directive that stops a conversation has its name from it: twice is once."""
    return "runaway-" + hashlib.blake2b("\n".join(key).encode(), digest_size=8).hexdigest()


def match_of(key: Key) -> Match:
    """The calls of one conversation."""
    tenant, conversation = key
    wanted = {"conversation": conversation}
    return Match.of({"tenant": tenant, **wanted} if tenant and "*" not in tenant else wanted)
