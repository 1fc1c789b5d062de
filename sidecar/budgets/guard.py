"""Streams that go off track, noted or ended by policy (:mod:`sidecar.budgets.offtrack` finds them)."""

from collections.abc import Callable
from functools import partial

from collector.domain.policy import Match
from sidecar.budgets.configured import OffTrackConfig
from sidecar.budgets.credit import CreditControl
from sidecar.budgets.offtrack import FEWEST_CALLS, Kind, Watch, longest_ordinary
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
        call.watch = partial(self._look, call, watch, call.watch)

    def _look(self, call: Call, watch: Watch, inner: Callable[[], bool] | None) -> bool:
        found = watch.found
        if found is not None and not call.outcome_reason:
            runaway = found.kind is Kind.RUNAWAY
            action = self._config.runaway if runaway else self._config.action
            if action == "cut":
                self._control.cut(call, RULE, found.reason)
                return False
            if action == "flag":
                call.outcome_reason = found.reason
                self._control.note(call, RULE, "flag", found.reason)
        return inner is None or inner()
