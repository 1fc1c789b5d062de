"""What goes over the pipe between the sidecar and the finder: four bytes of length, then MessagePack.

The first frame in is the assignment, the first one out tells which runner works. Then

    [id, "find", scope, text, within, until]            -> [id, [[key, distance, likeness], ...]]
    [id, "compare", answer, answer]                     -> [id, whether they say the same]
    [0, "add", scope, owner, key, text, expires_at]     nothing is said
    [0, "drop", scope, owner, key]
    [0, "forget", tenant or None, model or None]
    [0, "lose", [key, ...]]

and ``[id, None, problem]`` where something failed; ``[0, tokens]`` says what an endpoint has read.
Scopes and keys are bytes, an owner a tenant and a model: all of them digests, that nothing can be read from.
``until`` is a monotonic time: what was asked for in vain by then need not be looked for.
"""

from typing import Any, Final

import msgspec

MOST_FRAME: Final = 1 << 20
LENGTH_BYTES: Final = 4

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode


def pack(said: Any) -> bytes:
    """One frame."""
    body = _encode(said)
    return len(body).to_bytes(LENGTH_BYTES) + body


def unpack(body: bytes) -> Any:
    """What a frame says.

    Raises:
        msgspec.MsgspecError: it says nothing.
    """
    return _decode(body)
