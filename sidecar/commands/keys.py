"""``bursar keys``: what agents hold instead of a provider's key."""

import argparse
import json
import sys
import time
from datetime import UTC, datetime

from sidecar.commands.arguments import duration, pair
from sidecar.commands.process import check_data_dir
from sidecar.commands.tables import Column, print_columns
from sidecar.config import load_config
from sidecar.keys import KeyRing, VirtualKey

LESS_WANTED = ("created", "models", "tenant", "expires", "agent", "team", "name")
"""What a narrow terminal does not show of the keys, the first one first."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One of create, list, revoke."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key; it is shown once")
    create.add_argument("--name", default="", help="what it is for")
    for who in ("tenant", "team", "user", "agent"):
        create.add_argument(
            f"--{who}", default="", help=f"the {who} that its calls are for; no header can change it"
        )
    create.add_argument(
        "--tag", type=pair, action="append", default=[], metavar="NAME=VALUE", help="a tag on its calls"
    )
    create.add_argument("--models", default="", metavar="A,B", help="models it may ask for (default: all)")
    create.add_argument("--expires", type=duration, metavar="30d", help="when it ends by itself")
    create.add_argument("--capture", action="store_true", help="keep prompts and answers of its calls")
    listed = actions.add_parser("list", help="show all keys, never the keys themselves")
    listed.add_argument("--format", choices=("table", "json"), default="table")
    revoke = actions.add_parser("revoke", help="end a key; running sidecars follow within 5 s")
    revoke.add_argument("id", help="as `bursar keys list` shows it")


def run(arguments: argparse.Namespace) -> int:
    """Change or show the keys of the data directory."""
    config = load_config(arguments.config)
    check_data_dir(config, writes=arguments.action != "list")
    ring = KeyRing(config.data_dir)
    if arguments.action == "create":
        return create(ring, arguments)
    if arguments.action == "revoke":
        key = ring.revoke(arguments.id, time.time())
        if key is None:
            sys.stderr.write(f"no valid key has the id {arguments.id!r}\n")
            return 1
        sys.stdout.write(f"{key.id} is revoked\n")
        return 0
    return show(list(ring), arguments.format)


def create(ring: KeyRing, arguments: argparse.Namespace) -> int:
    """Make a key and show it."""
    now = time.time()
    token, key = ring.create(
        now,
        name=arguments.name,
        tenant=arguments.tenant,
        team=arguments.team,
        user=arguments.user,
        agent=arguments.agent,
        tags=dict(arguments.tag),
        models=tuple(model.strip() for model in arguments.models.split(",") if model.strip()),
        expires_at=int(now + arguments.expires) if arguments.expires is not None else None,
        capture=arguments.capture,
    )
    sys.stdout.write(f"{token}\n")
    sys.stderr.write(
        f"This is key {key.id}. It is not shown again: keep it where the agent finds it.\n"
        f"It counts where the data directory is {ring.path.parent.resolve()}\n"
    )
    return 0


def show(keys: list[VirtualKey], how: str) -> int:
    """Print what is known of all keys."""
    rows = [
        {
            "id": key.id,
            "name": key.name,
            "tenant": key.tenant,
            "team": key.team,
            "agent": key.agent,
            "models": ",".join(key.models),
            "created": moment(key.created_at),
            "expires": moment(key.expires_at),
            "state": state(key),
        }
        for key in keys
    ]
    if how == "json":
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return 0
    if not rows:
        sys.stdout.write("There is no key yet; `bursar keys create` makes one.\n")
        return 0
    columns = [
        Column(title=name, cells=[row[name] for row in rows], whole=name in ("id", "state"))
        for name in rows[0]
    ]
    print_columns(columns, LESS_WANTED)
    return 0


def state(key: VirtualKey) -> str:
    """Valid, revoked or expired."""
    if key.revoked_at is not None:
        return "revoked"
    return "valid" if key.is_valid(time.time()) else "expired"


def moment(seconds: int | None) -> str:
    """A time as people write it."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
