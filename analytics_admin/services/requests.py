"""Where a request comes from, as far as it can be believed."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from django.http import HttpRequest
from rest_framework.settings import api_settings


def client_address(request: HttpRequest) -> str:
    """Return the client's address, without a port; ``X-Forwarded-For`` counts for NUM_PROXIES.

    What is no address is returned as it came.
    """
    proxies = api_settings.NUM_PROXIES or 0  # to DRF, None means "trust it all"
    claimed = ""
    if proxies > 0:
        hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
        claimed = hops[-min(proxies, len(hops))].strip()
    claimed = claimed or str(request.META.get("REMOTE_ADDR", ""))
    address = parse_address(claimed)
    return claimed if address is None else str(address)


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address in a text like "192.0.2.7:4711", "[2001:db8::1]:443" or "fe80::1%eth0"."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
