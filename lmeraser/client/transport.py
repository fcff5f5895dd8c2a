"""From calls to HTTP requests and back, for both clients."""

from __future__ import annotations

import ipaddress
import os
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from lmeraser.client.calls import Answer, Call
from lmeraser.errors import ConfigError
from lmeraser.loopback import is_loopback

API_KEY_VARIABLE = "LMERASER_API_KEY"


def checked_url(base_url: str) -> str:
    """The address of a service.

    Raises:
        ConfigError: when it has no scheme or no host, or a port that is none.
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
    """Whether the address is this machine's own, whatever it is called."""
    host = urlsplit(url).hostname or ""
    try:
        # 0.0.0.0 and [::] are taken for this machine when they are called.
        return is_loopback(host) or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return f".{host.rstrip('.')}".endswith(".localhost")


def proxy_of(url: str) -> str | None:
    """The proxy that calls to this address go by, without the password that may be in its address; None for none."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or is_local(url) or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    scheme, mark, rest = proxy.rpartition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def authorization(api_key: str | None) -> dict[str, str]:
    """The header that carries the API key, or else that of the environment; empty where there is none.

    Raises:
        ConfigError: when it cannot be a key.
    """
    key = api_key or os.environ.get(API_KEY_VARIABLE)
    if not key:
        return {}
    if not (key.isascii() and key.isprintable() and " " not in key):
        # Without the key itself: it may be a real one with a line break behind it.
        raise ConfigError(f"the API key ({API_KEY_VARIABLE}) holds blanks, line breaks or other signs that no key has")
    return {"Authorization": f"Bearer {key}"}


def request_arguments(call: Call) -> dict[str, Any]:
    """What the HTTP library needs besides method and path."""
    return {"headers": dict(call.headers), **({} if call.body is None else {"json": call.body})}


def answer_of(response: httpx2.Response, proxy: str | None) -> Answer:
    """What came back."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, response.text, headers, proxy)


def no_answer(error: httpx2.TransportError, proxy: str | None) -> Answer:
    """That nothing came back, and why."""
    return Answer(0, f"no answer ({type(error).__name__}: {error})", proxy=proxy)
