"""Provider dialects: bytes in, facts out, no I/O.

facts            what a request asks, what a reply says, InvalidRequest
requests         a request on one of our own routes: strict
  beginnings     what of a long one was read before
  token_prompts  prompts of millions of tokens
  members        which bodies have too many members to be decoded
raw              a request on pass-through: best effort
paths            which paths can spend, in which dialect, on which model
rewrite          the changes we make to a body
meter            one reply: the same bytes out, facts beside them
  whole          a JSON reply of an API we know, read once by type when it has ended
  passing        every other reply, read as it passes
    ordinary     chunks that only add text, in C
    heavy_reply  whole ones of very many members
  modes          which of four things it is
    tails        the usage at the end of an event that is too large
dialects         the map: who reads which reply
  openai_chat  openai_prompt  openai_responses  anthropic  gemini  bedrock  cohere  ollama  dashscope
usage            providers' usage blocks
  usage_shapes   where each family keeps its counts, as tables
  plain_usage    the few shapes that most replies have, by type
errors           providers' errors, sorted into classes
translate        from one dialect into another
refusals         our own errors in the agent's dialect
terminal         the valid end of a stream that we cut
estimate         tokens where nobody says
sse eventstream jsonstream encoding strict hashing reading request_fields
                 the tools of the above
"""

from sidecar.wire.beginnings import Beginnings
from sidecar.wire.estimate import TokenRatios
from sidecar.wire.facts import APIS, InvalidRequest, ReplyFacts, RequestFacts, StreamPlace, WireError
from sidecar.wire.meter import Meter, meter_for
from sidecar.wire.ordinary import Lane
from sidecar.wire.paths import api_of, spends
from sidecar.wire.raw import read_raw_request
from sidecar.wire.reading import place_of
from sidecar.wire.refusals import error_body, error_event, error_fields
from sidecar.wire.requests import read_request
from sidecar.wire.rewrite import with_include_usage, with_model, with_output_cap
from sidecar.wire.terminal import terminal_events

__all__ = [
    "APIS",
    "Beginnings",
    "InvalidRequest",
    "Lane",
    "Meter",
    "ReplyFacts",
    "RequestFacts",
    "StreamPlace",
    "TokenRatios",
    "WireError",
    "api_of",
    "error_body",
    "error_event",
    "error_fields",
    "meter_for",
    "place_of",
    "read_raw_request",
    "read_request",
    "spends",
    "terminal_events",
    "with_include_usage",
    "with_model",
    "with_output_cap",
]
