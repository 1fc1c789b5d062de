"""What an agent says of reuse, in the head of its request.

``Cache-Control`` as in RFC 9111: ``no-store`` (neither give nor keep), ``no-cache`` (ask anew, keep the
answer), ``max-age=N`` (nothing older than N seconds). ``x-bursar-cache: bypass`` and ``refresh`` are the
first two in our words.
"""

from typing import NamedTuple

from sidecar.http import Request


class Wish(NamedTuple):
    """What the agent wants."""

    read: bool = True
    """It may be given a kept answer."""
    keep: bool = True
    """Its answer may be kept."""
    max_age_s: float = float("inf")
    """Oldest answer that it takes."""


ANYTHING = Wish()
BYPASS = Wish(read=False, keep=False)
REFRESH = Wish(read=False)


def wish_of(request: Request) -> Wish:
    """What ``request`` says; the strictest of what it says."""
    said = (request.header(b"x-bursar-cache") or b"").strip().lower()
    if said == b"bypass":
        return BYPASS
    control = request.header(b"cache-control")
    if control is None:
        return REFRESH if said == b"refresh" else ANYTHING
    oldest = float("inf")
    read = said != b"refresh"
    for part in control.lower().split(b","):
        name, _, value = part.strip().partition(b"=")
        if name == b"no-store":
            return BYPASS
        if name == b"no-cache":
            read = False
        elif name == b"max-age":
            digits = value.strip(b'" ')
            # What cannot be read is the strictest age, as RFC 9111 4.2.1 would have it.
            oldest = min(oldest, float(digits) if digits.isdigit() and len(digits) < 12 else 0.0)
    return Wish(read=read, max_age_s=oldest)
