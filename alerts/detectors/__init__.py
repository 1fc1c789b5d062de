"""Detectors: what they are shown and what they say is in :mod:`alerts.detectors.finding`."""

from alerts.detectors.finding import Detector, Finding, Kind, Point, State, Subject, subject

__all__ = ["Detector", "Finding", "Kind", "Point", "State", "Subject", "subject"]
