"""What may be asked over HTTP, and with which secrets."""

import ipaddress
import os
import warnings
from string import Template
from urllib.parse import urlsplit

from ..errors import InputError


def check_url(url: str, *, secret: bool) -> bool:
    """Whether a service's address is on this machine; plain http to another one is warned of.

    Args:
        url: http or https, without a user name.
        secret: whether headers go with the requests, which only https may carry to another machine.

    Raises:
        InputError: it is no address of a service, or not one for secrets.

    Example:
        >>> check_url("http://127.0.0.1:8000", secret=True), check_url("https://example.org/models/x", secret=True)
        (True, False)
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https") or parts.username is not None:
        raise InputError(
            f"{public(url)} is no address of a service: write http://host:port/path or https://host/path, and no "
            "password in it (headers= takes one from an environment variable)."
        )
    local = host == "localhost" or _is_loopback(host)
    if parts.scheme == "http" and not local:
        if secret:
            raise InputError(f"http://{host} would carry the headers unencrypted: use https, or leave them out.")
        warnings.warn(f"Queries to http://{host} and their answers travel unencrypted: use https.", stacklevel=2)
    return local


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def public(url: str) -> str:
    """An address without what may be secret in it: user, password, query.

    Example:
        >>> public("https://me:word@example.org/x?key=5")
        'https://example.org/x'
    """
    scheme, slashes, rest = url.partition("?")[0].partition("#")[0].rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"


def filled(name: str, value: str) -> str:
    """A header's value with environment variables in the place of ``$NAME``.

    Raises:
        InputError: one that is not set, or characters that HTTP does not allow; the value is not shown.

    Example:
        >>> os.environ["EXAMPLE_TOKEN"] = "abc"
        >>> filled("Authorization", "Bearer $EXAMPLE_TOKEN")
        'Bearer abc'
    """
    try:
        text = Template(value).substitute(os.environ).strip()
    except (KeyError, ValueError):
        raise InputError(
            f"The header {name} names an environment variable that is not set: set it, as in export HF_TOKEN=... for "
            'headers={"Authorization": "Bearer $HF_TOKEN"}.'
        ) from None
    if not text.isascii() or not text.isprintable():
        raise InputError(f"The header {name} has characters that HTTP does not allow: look at the variable's value.")
    return text
