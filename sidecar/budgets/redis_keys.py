"""Names of keys in a shared Redis, and the slot of a Cluster they fall into.

All keys that one script touches carry the same hash tag, that of the tenant, so they lie in one slot
whatever a budget, a subject or a lease is called.
"""

from binascii import crc_hqx

from collector.domain.credit import Counter

PREFIX = "b:"
"""Before every key of ours, so that an ACL can name them."""
NO_TENANT = "-"
SLOTS = 16384

ACL_RULES = (
    "resetchannels &b:* ~b:* -@all +evalsha +eval +script|load +ping +info +select +client|setname "
    "+hget +hmget +hgetall +hset +hsetnx +hdel +hincrby +hkeys +hlen +get +set +del +pexpire +pexpireat "
    "+zadd +zrem +zrangebyscore +time +publish +subscribe +unsubscribe"
)
"""All that a Redis user of ours needs (`ACL SETUSER bursar on >PASSWORD` and these)."""


def tag_of(tenant: str) -> str:
    """The hash tag of a tenant: no tenant can name another's, nor end its own early."""
    if not tenant:
        return NO_TENANT
    escaped = tenant.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
    return f"t.{escaped}"


def slot_of(key: str | bytes) -> int:
    """The Cluster slot of ``key``: CRC16 (XMODEM) of its hash tag, or of all of it."""
    raw = key.encode() if isinstance(key, str) else key
    start = raw.find(b"{")
    if start >= 0:
        end = raw.find(b"}", start + 1)
        if end > start + 1:
            raw = raw[start + 1 : end]
    return crc_hqx(raw, 0) % SLOTS


class TagKeys:
    """The keys of one hash tag."""

    __slots__ = ("directives", "due", "epoch", "fence", "lease_stem", "marks", "peers", "stem", "tag", "tags")

    def __init__(self, tag: str, prefix: str = PREFIX) -> None:
        self.tag = tag
        self.stem = f"{prefix}{{{tag}}}:c:"
        self.lease_stem = f"{prefix}{{{tag}}}:l:"
        self.epoch = f"{prefix}{{{tag}}}:epoch"
        self.marks = f"{prefix}{{{tag}}}:marks"
        self.due = f"{prefix}{{{tag}}}:due"
        self.peers = f"{prefix}{{{tag}}}:peers"
        self.fence = f"{prefix}{{{tag}}}:fence"
        self.tags = f"{prefix}{{{tag}}}:tags"
        self.directives = f"{prefix}{{{tag}}}:directives"

    def counter(self, counter: Counter) -> str:
        """Where ``counter`` is kept."""
        return self.stem + counter.key

    def lease(self, lease: str) -> str:
        """Where ``lease`` is kept."""
        return self.lease_stem + lease

    def slices(self, source: str) -> str:
        """Where the lease is kept by which ``source`` holds in advance."""
        return f"{self.lease_stem}~{source}"
