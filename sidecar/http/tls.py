"""TLS towards upstreams."""

import ssl


def upstream_tls(ca_file: str | None = None) -> ssl.SSLContext:
    """A context that verifies certificate and host name, and offers HTTP/1.1 only.

    Args:
        ca_file: PEM file of the authorities to trust instead of the system's.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
