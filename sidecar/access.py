"""Who may look at the dashboard, how they sign in, what each sees: ``access`` in the configuration."""

import ipaddress
from dataclasses import field
from typing import Literal

from collector.domain.access import EVERY_TENANT, Role
from collector.frozen import dataclass
from collector.settings import Secret

MOST_TENANTS = 100
"""As many values as one filter of the read API takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleConfig:
    """What some people may see and do; the first role that names somebody counts."""

    users: list[str]
    """Names as they sign in, such as ``ann@acme.example`` or ``*@acme.example``."""
    tenants: list[str] = field(default_factory=lambda: [EVERY_TENANT])
    """Whose calls they see; ``*`` for everybody's."""
    operate: bool = False
    """Whether they may raise and pause the budgets of these tenants."""

    def __post_init__(self) -> None:
        if not self.users or not all(self.users):
            raise ValueError("users: name at least one")
        if not self.tenants or len(self.tenants) > MOST_TENANTS:
            raise ValueError(f"tenants: name one to {MOST_TENANTS}")

    def role(self) -> Role:
        """As the books know it."""
        return Role(users=tuple(self.users), tenants=tuple(self.tenants), operate=self.operate)


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcConfig:
    """The provider that people sign in with (OpenID Connect)."""

    metadata_url: str = ""
    """Where it describes itself: an address that ends in ``/.well-known/openid-configuration``."""
    client_id: str = ""
    """As it knows the dashboard."""
    client_secret: Secret | None = None
    """Given by the provider."""
    cookie_secret: Secret | None = None
    """Signs the cookie of who has signed in: any long random text."""
    redirect_url: str = ""
    """The dashboard's own address as browsers know it, with ``/oauth2callback`` behind it."""
    claim: str = "email"
    """What of a person's token is their name here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessConfig:
    """How people sign in to the dashboard, and what each of them sees."""

    sign_in: Literal["off", "proxy", "oidc"] = "off"
    """``proxy``: a reverse proxy says who it is; ``oidc``: with a provider. ``off``: nobody has to, and all
    who reach the dashboard see everything."""
    header: str = "x-forwarded-user"
    """Which header of the proxy's names the person."""
    trusted_proxies: list[str] = field(default_factory=lambda: ["127.0.0.1", "::1"])
    """Addresses or networks that the header is believed of; from anywhere else nobody is signed in."""
    oidc: OidcConfig = field(default_factory=OidcConfig)
    """The provider."""
    roles: list[RoleConfig] = field(default_factory=list)
    """What people see; without any, everybody who has signed in sees everything."""

    def __post_init__(self) -> None:
        for text in self.trusted_proxies:
            try:
                ipaddress.ip_network(text, strict=False)
            except ValueError as error:
                raise ValueError(f"trusted_proxies: {text!r} is neither an address nor a network") from error
        if self.roles and self.sign_in == "off":
            raise ValueError("roles: need people to sign in; set sign_in to proxy or oidc")
        if self.sign_in == "oidc":
            needed = ("metadata_url", "client_id", "client_secret", "cookie_secret", "redirect_url")
            missing = [name for name in needed if not getattr(self.oidc, name)]
            if missing:
                raise ValueError(f"oidc: sign_in by oidc needs {', '.join(missing)}")

    def all_roles(self) -> tuple[Role, ...]:
        """The roles as the books know them, in order."""
        return tuple(role.role() for role in self.roles)
