"""Detectors: pure, online, without a clock; see each module for how it judges.

finding   what a detector is shown, and what it says
watch     one subject's minutes: the incident that is open, named after its first signal
signals   the signals behind it, and which of them are strange
shifts    one signal against its own past
rates     rates that surge, drop or drift from what this hour has seen
levels    any level against the last hours and this hour of the day
windows   any series by its nearest past windows (numpy)
tails     how rare a score is among earlier ones
forest    which minutes are strange in all signals together, for ranking (scikit-learn)
"""

from alerts.detectors.finding import Detector, Finding, Kind, Point, State, Subject, subject

__all__ = ["Detector", "Finding", "Kind", "Point", "State", "Subject", "subject"]
