"""Decides where the town may call out to: public addresses, and those its operator allowed.

A URL that a user gave is checked twice. `check_url` looks at what can be seen in its text, so that
a mistake is told when it is made. `check_peer` looks at the address that is about to be dialled:
names resolve to what their owners like, and to something else a moment later, so only that moment
counts. Whoever opens a connection for a user calls it for each address, and dials that very one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any, Final, TypeAlias

from tinytown.errors import Invalid

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

BLOCKED: Final = "blocked address"
"""All that a caller is told: which address a name led to is nobody's business."""
PORTS: Final = frozenset({80, 443, 8443})
"""Where the public web listens; a POST to other ports may be read as another protocol."""
URL_LETTERS: Final = 2_048
HOST_LETTERS: Final = 253

# What IANA's special-purpose registries hold (2026-11), and Azure's 168.63.129.16: a public address
# that answers with credentials from inside. Mostly wider than the registry's "not global".
_CLOSED_V4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network; Linux dials itself
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT, and tailnets
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's WireServer
        "169.254.0.0/16",  # link-local, and the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# Of IPv6 only what is given out as global unicast is open. So loopback, unique local addresses
# (Fly's own network), link-local, multicast, and every way of NAT64 to write an IPv4 address in
# IPv6 are closed without being named. Inside it, these are not what they seem:
_GLOBAL_V6: Final = IPv6Network("2000::/3")
_CLOSED_V6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo and other protocol assignments
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address inside
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)

# Nothing that two parsers could read in two ways: no user, no backslash, no fragment, only ASCII.
_URL: Final = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[a-z0-9._-]{1,255}|\[[0-9a-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<rest>[/?][!\"$-\[\]-~]*)?",
    re.IGNORECASE,
)
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
_HIGHEST_PORT: Final = 65_535


class Blocked(OSError):
    """The address must not be dialled; an OSError, so that the next one of a name is tried."""

    def __init__(self) -> None:
        """Say what everybody may know."""
        super().__init__(BLOCKED)


class Egress:
    """The rule for one town."""

    def __init__(self, allow: Sequence[Network] = ()) -> None:
        """Open the public addresses, and these networks with any port and without TLS."""
        self._allow = tuple(allow)

    def permits(self, address: str | Address) -> bool:
        """Tell whether an address may be dialled at all; no for what is none."""
        found = _parsed(address)
        if found is None:
            return False
        return self._public(found) or self._allows(found)

    def check_url(self, url: str) -> None:
        """Raise Invalid for a URL that could never be called from here.

        It has to be https to port 443, 8443 or 80 and carry nothing but host, path and query;
        plain http and other ports are for addresses that the operator allowed. The host may still
        lead to an address that is blocked: that shows when it is dialled.
        """
        if len(url) > URL_LETTERS:
            raise Invalid(f"a URL here has at most {URL_LETTERS} characters")
        parts = _URL.fullmatch(url)
        if parts is None:
            raise Invalid(_fault(url))
        port = int(parts["port"]) if parts["port"] else None
        if port is not None and not 0 < port <= _HIGHEST_PORT:
            raise Invalid("the URL's port is none")
        address = self._host(parts["host"])
        may_be_allowed = bool(self._allow) if address is None else self._allows(address)
        if may_be_allowed:
            return
        if parts["scheme"].lower() != "https":
            raise Invalid("the URL has to start with https://")
        if port is not None and port not in PORTS:
            raise Invalid("the URL's port has to be 443, 8443 or 80")

    def check_peer(
        self, address: tuple[Any, ...], *, port: int | None = None, secure: bool = True
    ) -> None:
        """Raise Blocked unless this socket address may be dialled now.

        `port` asks for the rule of ports as well (None: the protocol has ports of its own), and
        `secure` says that TLS will be spoken there.
        """
        found = _parsed(address[0]) if address else None
        if found is None:
            raise Blocked
        if self._allows(found):
            return
        if not self._public(found) or not secure or (port is not None and port not in PORTS):
            raise Blocked

    def shows_blocked(self, host: str) -> bool:
        """Tell whether a host's text alone shows that it may not be dialled; a name rarely does."""
        found = _parsed(host.strip("[]"))
        if found is None:
            return _is_local(host) and not self._allows_loopback
        return not self.permits(found)

    def _host(self, host: str) -> Address | None:
        """Check a URL's host; gives the address if it is one, not a name."""
        if host.startswith("["):
            address = _parsed(host[1:-1]) if ":" in host else None
            if address is None:
                raise Invalid("the URL's host is not an address")
        else:
            labels = host.split(".")
            if len(host) > HOST_LETTERS or not all(map(_LABEL.fullmatch, labels)):
                raise Invalid("the URL's host is not a name")
            if not _NUMBER.fullmatch(labels[-1]):
                if _is_local(host) and not self._allows_loopback:
                    raise Invalid(BLOCKED)
                return None
            # Browsers and C libraries read 127.1, 0x7f.1 and 2130706433 as addresses too.
            address = _parsed(host)
            if address is None:
                raise Invalid("write the URL's address as four decimal numbers")
        if not self.permits(address):
            raise Invalid(BLOCKED)
        return address

    @property
    def _allows_loopback(self) -> bool:
        return any(self._allows(ip_address(text)) for text in ("127.0.0.1", "::1"))

    def _allows(self, address: Address) -> bool:
        return any(address in network for network in self._allow)

    @staticmethod
    def _public(address: Address) -> bool:
        if isinstance(address, IPv4Address):
            return not any(address in network for network in _CLOSED_V4)
        if address not in _GLOBAL_V6:
            return False
        return not any(address in network for network in _CLOSED_V6)


def parse_allow(text: str) -> tuple[Network, ...]:
    """Read networks and addresses, separated by white space or commas; ValueError names one."""
    return tuple(_network(word) for word in re.split(r"[\s,]+", text) if word)


def _network(word: str) -> Network:
    try:
        network = ip_network(word)
    except ValueError:
        try:
            meant = f"; did you mean {ip_network(word, strict=False)}?"
        except ValueError:
            meant = ""
        raise ValueError(f"{word[:60]} is no address or network{meant}") from None
    if isinstance(network, IPv6Network):
        if network.network_address.scope_id is not None:
            raise ValueError(f"{word[:60]} names a zone, which no address here has")
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network


def _parsed(address: object) -> Address | None:
    """Read an address as what it leads to: an IPv4 address in IPv6's clothes is an IPv4 address."""
    if isinstance(address, str):
        try:
            address = ip_address(address)
        except ValueError:
            return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address if isinstance(address, IPv4Address) else None


def _is_local(host: str) -> bool:
    """Whether a name is one of this machine's (RFC 6761)."""
    return host.rstrip(".").lower().rpartition(".")[2] == "localhost"


def _fault(url: str) -> str:
    """Say what is wrong with a URL without repeating it."""
    scheme, mark, rest = url.partition("://")
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if scheme.lower() not in {"http", "https"} or not mark:
        return "the URL has to start with https://"
    if not url.isascii():
        return "a URL is ASCII: write the host as xn--…, the rest with percent signs"
    if "@" in authority:
        return "the URL may not carry a user or password"
    if "#" in url:
        return "the URL may not have a fragment"
    return "this is not a URL that can be called"
