"""HTTP/1.1 for one job: agents on one side, model providers on the other.

No framework stands here, because one costs more than everything else the sidecar
does. Towards agents, :class:`Server` reads a request (``head``, ``target``,
``chunked``), starts the handler with a :class:`Request` and a :class:`Responder`
(``connection``, ``exchange``) and watches the client. Towards providers,
:class:`UpstreamPool` (``upstream``, ``upstream_connection``) sends a request over a
kept connection and gives an :class:`UpstreamReply` (``reply``), which pushes bytes
on as they are read. Whole messages of both leave together, at the end of a turn of the
loop (``outbox``). ``sweep`` is the one timer behind all :class:`Deadlines`; ``turns`` keeps a
crowd of new requests from holding up those under way.

Both sides are strict: what two readers of HTTP could read in two ways is refused.
"""

from sidecar.http.chunked import ChunkedDecoder
from sidecar.http.exchange import ErrorBody, Handler, Request, Responder
from sidecar.http.fields import HeaderList, field_lines
from sidecar.http.head import end_to_end
from sidecar.http.limits import Deadlines, Limits
from sidecar.http.outbox import Outbox
from sidecar.http.reply import UpstreamError, UpstreamErrorKind, UpstreamReply
from sidecar.http.server import Server
from sidecar.http.tls import upstream_tls
from sidecar.http.upstream import UpstreamPool
from sidecar.http.within import within

__all__ = [
    "ChunkedDecoder",
    "Deadlines",
    "ErrorBody",
    "Handler",
    "HeaderList",
    "Limits",
    "Outbox",
    "Request",
    "Responder",
    "Server",
    "UpstreamError",
    "UpstreamErrorKind",
    "UpstreamPool",
    "UpstreamReply",
    "end_to_end",
    "field_lines",
    "upstream_tls",
    "within",
]
