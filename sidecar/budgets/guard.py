"""Streams that go off track, noted or ended by policy (:mod:`sidecar.budgets.offtrack` finds them)."""

from collector.domain.policy import Match
from sidecar.budgets.configured import OffTrackConfig
from sidecar.budgets.credit import CreditControl
from sidecar.budgets.offtrack import FEWEST_CALLS, Kind, OffTrack, Watch, longest_ordinary
from sidecar.budgets.telling import ask_by
from sidecar.call import Call
from sidecar.wire import Meter

RULE = "off_track"


class StreamGuard:
    """Watches the text of streams as it passes."""

    def __init__(self, config: OffTrackConfig, control: CreditControl) -> None:
        self._config = config
        self._match: Match = config.match.match()
        self._control = control
        self.is_on = config.action != "off" or config.runaway != "off"

    def follow(self, call: Call, meter: Meter) -> None:
        """Watch the reply of ``call`` from its beginning."""
        facts = call.facts
        if facts is None or not self._match.accepts(ask_by(call)):
            return
        longest = None
        if self._config.runaway != "off":
            expected = self._control.state.experience.expected(
                facts.model, call.caller.agent, call.api, len(facts.message_hashes) > 2
            )
            # The quantile is only told from so many calls on.
            longest = longest_ordinary(expected.output_high or 0, FEWEST_CALLS)
        watch = Watch(longest)
        meter.watch(watch.feed)
        inner = call.watch

        def look() -> bool:
            if watch.found is not None and not self._goes_on(call, watch.found):
                return False
            return inner is None or inner()

        call.watch = look
        # What a budget asks, it asks of each chunk.
        call.watch_room = watch.room if inner is None else None

    def _goes_on(self, call: Call, found: OffTrack) -> bool:
        """Do what is to be done about ``found``, once; whether the stream goes on."""
        if not call.outcome_reason:
            runaway = found.kind is Kind.RUNAWAY
            action = self._config.runaway if runaway else self._config.action
            if action == "cut":
                self._control.cut(call, RULE, found.reason)
                return False
            if action == "flag":
                call.outcome_reason = found.reason
                self._control.note(call, RULE, "flag", found.reason)
        return True
