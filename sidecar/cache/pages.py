"""What operators ask of reuse.

    GET  /bursar/v1/cache          how many answers are kept, and in how much room
    POST /bursar/v1/cache/purge    {tenant, model, tag} -> {gone}: forget answers; all that are named must fit

On the control port, with the control key.
"""

from typing import Any

import msgspec

from sidecar.budgets.redis_connection import RedisLost
from sidecar.cache.answers import Answers, Which

CACHE = "/bursar/v1/cache"
PURGE = "/bursar/v1/cache/purge"


class _PurgeBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    tenant: str | None = None
    model: str | None = None
    tag: str | None = None
    """``NAME=VALUE``, or a bare ``NAME``."""
    everything: bool = False


async def answer(answers: Answers, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]] | None:
    """Status and body; None where the path is not one of ours.

    Raises:
        ValueError, msgspec.MsgspecError: what was asked cannot be read.
    """
    if path == CACHE and method == "GET":
        return 200, answers.stats()
    if path != PURGE or method != "POST":
        return None
    said = msgspec.json.decode(body, type=_PurgeBody)
    if said.everything == any(what is not None for what in (said.tenant, said.model, said.tag)):
        raise ValueError("name a tenant, a model or a tag; or everything: true, and nothing else")
    tag = None
    if said.tag is not None:
        name, equals, value = said.tag.partition("=")
        tag = (name, value if equals else "true")
    try:
        return 200, {"gone": await answers.purge(Which(said.tenant, said.model, tag))}
    except RedisLost as error:
        return 503, {"error": f"answers in Redis were not taken away: {error}"}
