"""A small OpenID Connect provider over real HTTP: discovery, a sign-in page, codes with PKCE, signed tokens.

https://openid.net/specs/openid-connect-core-1_0.html and RFC 7636. Whoever knows a name on its list may
sign in as it: that is between people and their provider.
"""

import base64
import contextlib
import hashlib
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from support.ports import free_port

PAGE = """<!doctype html><title>Who are you?</title><form method="post">
<label>Name <input name="login"></label><button>Continue</button></form>"""


@dataclass(slots=True)
class Provider:
    """Knows one client and some people."""

    client_id: str
    client_secret: str
    redirect_url: str
    people: Mapping[str, Mapping[str, Any]]
    """Claims of each person, by the name typed on the page."""
    port: int = field(default_factory=free_port)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}))
    refused: list[str] = field(default_factory=list)
    """Why a client got no token."""
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def metadata_url(self) -> str:
        return f"{self.url}/.well-known/openid-configuration"

    def describe(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            }
        )

    def keys(self, request: Request) -> Response:
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})

    async def authorize(self, request: Request) -> Response:
        """The page on which people say who they are, and the way back with a code."""
        asked = request.query_params
        if (asked.get("client_id"), asked.get("redirect_uri")) != (self.client_id, self.redirect_url):
            return HTMLResponse("another client", 400)
        if request.method == "GET":
            return HTMLResponse(PAGE)
        login = str((await request.form())["login"])
        if login not in self.people:
            return HTMLResponse("I do not know you", 403)
        code = secrets.token_urlsafe()
        kept = {name: asked.get(name, "") for name in ("nonce", "code_challenge", "redirect_uri")}
        self._codes[code] = kept | {"login": login}
        back = urlencode({"code": code, "state": asked["state"]})
        return RedirectResponse(f"{self.redirect_url}?{back}", 302)

    async def token(self, request: Request) -> Response:
        """A signed token for a code, which is good once."""
        form = await request.form()
        kept = self._codes.pop(str(form.get("code")), None)
        verifier = str(form.get("code_verifier", ""))
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        if kept is None or form.get("redirect_uri") != kept["redirect_uri"]:
            return self._refuse("invalid_grant")
        if kept["code_challenge"] != digest:
            return self._refuse("wrong verifier")
        if not self._is_the_client(request, dict(form)):
            return self._refuse("invalid_client")
        now = int(time.time())
        claims = {"iss": self.url, "aud": self.client_id, "sub": kept["login"], "iat": now, "exp": now + 600}
        claims |= dict(self.people[kept["login"]]) | {"nonce": kept["nonce"]}
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key)
        return JSONResponse(
            {"access_token": secrets.token_urlsafe(), "token_type": "Bearer", "expires_in": 600,
             "id_token": token}
        )  # fmt: skip

    def _is_the_client(self, request: Request, form: Mapping[str, Any]) -> bool:
        basic = base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
        posted = (form.get("client_id"), form.get("client_secret"))
        header = request.headers.get("authorization")
        return header == f"Basic {basic}" or posted == (self.client_id, self.client_secret)

    def _refuse(self, why: str) -> Response:
        self.refused.append(why)
        return JSONResponse({"error": "invalid_grant", "error_description": why}, 400)

    @contextlib.contextmanager
    def serving(self) -> Iterator["Provider"]:
        """Answer until the block ends."""
        app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self.describe),
                Route("/keys", self.keys),
                Route("/authorize", self.authorize, methods=["GET", "POST"]),
                Route("/token", self.token, methods=["POST"]),
            ]
        )
        config = uvicorn.Config(app, port=self.port, log_level="warning", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < deadline, "the provider did not start"
            time.sleep(0.01)
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join(10)
