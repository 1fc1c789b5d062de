"""Write `alerts/rules/*.yml` for Prometheus from `alerts/definitions/*.yml`.

usage: rules.py [--check]
"""

import sys
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from alerts.rules import RULES, load_rules, prometheus_text

HEAD = """\
# For Prometheus 2.42 or newer. Made from alerts/definitions/{group}.yml by scripts/alerts/rules.py:
# change it there. `bursar alerts rules` prints all of them with the thresholds of your configuration.
"""


def files() -> dict[Path, str]:
    """What each file should hold."""
    return {
        RULES / f"{group}.yml": prometheus_text(rules, HEAD.format(group=group))
        for group, rules in groupby(load_rules(), key=lambda rule: rule.group)
    }


def main() -> int:
    """Write the files; with --check, only say which are out of date."""
    wanted = files()
    stale = {*RULES.glob("*.yml")} - {*wanted}
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        sys.stderr.writelines(f"out of date: {path.name}\n" for path in [*changed, *stale])
        return 1 if changed or stale else 0
    for path in changed:
        path.write_text(wanted[path])
    for path in stale:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
