"""What one peer may ask of us, and for how long: the bounds of the data plane."""

from collector.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what is held in memory; each has its own answer when reached.

    Raises:
        ValueError: a bound is not positive.
    """

    head_bytes: int = 32 * 1024
    """Longest head of a request (431) or of an upstream's reply, in bytes."""
    head_fields: int = 100
    """Most header fields of one message (431)."""
    body_bytes: int = 20 * 1024 * 1024
    """Longest request body (413)."""
    connections: int = 8192
    """Client connections held open at once; beyond, 503 and close. File descriptors may allow fewer."""
    requests: int = 4096
    """Requests being answered at once; beyond, 503 with ``Retry-After``."""
    pipelined_bytes: int = 64 * 1024
    """Bytes read ahead while a request is being answered; beyond, we stop reading."""
    write_high_water: int = 256 * 1024
    """Unsent bytes of one client above which its reply is paused, to go on at a quarter of it."""
    write_buffer: int = 1024 * 1024
    """Unsent bytes of one client at which a reply that goes on regardless is cut."""
    reply_buffer: int = 256 * 1024
    """Bytes of an upstream's reply held before anyone reads it; beyond, we stop reading."""
    waiting: int = 1024
    """Calls that may wait for a free connection to one upstream."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long we wait for a peer, in seconds. One coarse timer enforces them all.

    Raises:
        ValueError: a deadline is not positive.
    """

    head_s: float = 10.0
    """A client, from its connection or its first byte to the end of the head (408)."""
    body_s: float = 30.0
    """A client's body; after that it must have come at ``body_bytes_per_s`` on average (408)."""
    body_bytes_per_s: float = 1000.0
    keep_alive_s: float = 75.0
    """A client's connection between two requests."""
    stalled_client_s: float = 120.0
    """A client that takes none of the bytes waiting for it."""
    linger_s: float = 2.0
    """A closing connection, for its last bytes to be read."""
    queue_s: float = 10.0
    """A call waiting for a free connection to its upstream."""
    connect_s: float = 10.0
    """Name look-up, TCP and TLS towards an upstream together."""
    first_byte_s: float = 600.0
    """An upstream, from our request to its head. A long answer that is not streamed takes minutes."""
    idle_s: float = 120.0
    """An upstream, between two pieces of a reply."""
    total_s: float = 1800.0
    """An upstream's whole reply."""
    upstream_keep_alive_s: float = 30.0
    """A connection to an upstream between two calls."""
    stale_s: float = 0.05
    """A kept connection that is closed on us sooner than this and a round trip, without one byte, had been
    closed before our request arrived: it is sent again, once. Later it may have been at work, and costing."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0, not {getattr(self, name)}")
