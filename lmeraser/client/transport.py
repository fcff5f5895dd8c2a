"""Addresses, proxies, headers, requests and answers: what both clients share."""

from __future__ import annotations

import ipaddress
import os
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from lmeraser.client.exchange import Answer, Call
from lmeraser.errors import ConfigError
from lmeraser.loopback import is_loopback

API_KEY_VARIABLE = "LMERASER_API_KEY"


def checked_url(base_url: str) -> str:
    """The address of a service.

    Raises:
        ConfigError: when it has no scheme, no host, or an invalid port.
    """
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"the service's address is {base_url!r}; allowed is http://HOST:PORT or https://HOST")
    return base_url


def is_local(url: str) -> bool:
    """Whether the address is this machine's own, under any of its names."""
    host = urlsplit(url).hostname or ""
    try:
        # A connection to 0.0.0.0 or [::] reaches this machine.
        return is_loopback(host) or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return f".{host.rstrip('.')}".endswith(".localhost")


def proxy_of(url: str) -> str | None:
    """The proxy for calls to this address, without the password that its address may hold; None if there is none."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or is_local(url) or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    scheme, mark, rest = proxy.rpartition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def authorization(api_key: str | None) -> dict[str, str]:
    """The header with the API key, by default that of the environment; empty when there is no key.

    Raises:
        ConfigError: when the key is malformed.
    """
    key = api_key or os.environ.get(API_KEY_VARIABLE)
    if not key:
        return {}
    if not (key.isascii() and key.isprintable() and " " not in key):
        # Without the key itself, which may be a real one followed by a line break.
        raise ConfigError(
            f"the API key (api_key or {API_KEY_VARIABLE}) has spaces, line breaks or non-ASCII characters; "
            "allowed are printable ASCII characters without spaces"
        )
    return {"Authorization": f"Bearer {key}"}


def request_arguments(call: Call) -> dict[str, Any]:
    """The HTTP library's arguments besides method and path."""
    body: dict[str, Any] = {} if call.body is None else {"json": call.body}
    return {"headers": dict(call.headers), **body, **({} if call.content is None else {"content": call.content})}


def answer_of(response: httpx2.Response, proxy: str | None) -> Answer:
    """From the HTTP library's response."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, response.text, headers, proxy)


def no_answer(error: httpx2.TransportError, proxy: str | None) -> Answer:
    """The answer that represents a failed connection, with its reason."""
    return Answer(0, f"no answer ({type(error).__name__}: {error})", proxy=proxy)
