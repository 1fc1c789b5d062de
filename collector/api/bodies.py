"""What comes in with a request, no more of it than there may be."""

from starlette.exceptions import HTTPException
from starlette.requests import Request

from collector.store.answers import JSON


async def body_of(request: Request, most: int) -> bytes:
    """The body.

    Raises:
        HTTPException: 413, it is longer than ``most`` bytes.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"at most {most >> 10} KiB")
    return body


async def json_body_of(request: Request, most: int) -> bytes:
    """The same, of a request that says that it is JSON.

    Raises:
        HTTPException: 413, 415.
    """
    # A form of a web page can send text, never this.
    if request.headers.get("content-type", "").partition(";")[0].strip() != JSON:
        raise HTTPException(415, "send application/json")
    return await body_of(request, most)
