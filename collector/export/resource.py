"""Who our spans come from."""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

SCOPE = "bursar"
"""Name of the instrumentation scope."""


@cache
def service_resource() -> "Resource":
    """Who the spans come from: ``service.name=bursar`` unless ``OTEL_*`` variables name it otherwise."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource

    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "bursar"}))
    return resource


@cache
def version() -> str:
    """Our own version, as installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("bursar")
    except PackageNotFoundError:
        return "0"
