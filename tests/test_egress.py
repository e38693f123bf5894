"""The town calls out to public addresses only, however the others are written down."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from AntiSSRF import IPAddressRanges  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from fakes.spellings import LOOPBACK, PLACES, PUBLIC
from tinytown.egress import BLOCKED, Address, Blocked, Egress, Network, parse_allow
from tinytown.errors import Invalid

STRANGER = Egress()
HOUSE = Egress(parse_allow("192.168.1.0/24, 127.0.0.1 fd00:1::/64"))

MICROSOFTS = tuple(ip_network(text) for text in IPAddressRanges.recommended_latest)
GLOBAL = IPv6Network("2000::/3")


def others_refuse(address: Address) -> bool:
    """Ask the two lists that are not ours; either's no is a no."""
    plain = (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address
    return not plain.is_global or any(plain in network for network in MICROSOFTS)


def edges() -> list[Address]:
    """List the first and last address of every network that anybody names, and their neighbours."""
    found: set[Address] = set()
    for network in (
        *MICROSOFTS,
        GLOBAL,
        *(ip_network(place.partition("%")[0]) for place in PLACES),
    ):
        kind = IPv4Address if network.version == 4 else IPv6Address
        first, last = int(network.network_address), int(network.broadcast_address)
        for number in (first - 1, first, first + 1, last - 1, last, last + 1):
            if 0 <= number < 2**network.max_prefixlen:
                found.add(kind(number))
    return sorted(found, key=lambda address: (address.version, int(address)))


def agree(address: Address) -> None:
    """Hold our answer against theirs."""
    ours = not STRANGER.permits(address)
    theirs = others_refuse(address)
    outside = isinstance(address, IPv6Address) and (address.ipv4_mapped is None)
    if outside and address not in GLOBAL:
        assert ours, f"{address} is not in 2000::/3"
    else:
        assert ours == theirs, f"{address}: we {'refuse' if ours else 'dial'}"


@pytest.mark.parametrize("address", PLACES)
def test_an_address_inside_is_not_dialled(address: str) -> None:
    assert not STRANGER.permits(address)
    with pytest.raises(Blocked, match=rf"^{BLOCKED}$"):
        STRANGER.check_peer((address, 443), port=443)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_dialled(address: str) -> None:
    assert STRANGER.permits(address)
    assert STRANGER.permits(ip_address(address))
    STRANGER.check_peer((address, 443), port=443)


@pytest.mark.parametrize("address", edges(), ids=str)
def test_at_the_edge_of_every_network_others_say_the_same(address: Address) -> None:
    agree(address)


@given(st.ip_addresses())
def test_of_any_address_others_say_the_same(address: Address) -> None:
    agree(address)


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0/96", "64:ff9b::/96", "::/96"]))
def test_an_ipv4_address_in_ipv6s_clothes_gains_nothing(address: Address, clothes: str) -> None:
    dressed = ip_network(clothes).network_address + int(address)

    assert STRANGER.permits(dressed) <= STRANGER.permits(address)


@given(st.text(max_size=60))
def test_what_is_no_address_is_not_dialled(text: str) -> None:
    try:
        ip_address(text)
    except ValueError:
        assert not STRANGER.permits(text)
        with pytest.raises(Blocked):
            STRANGER.check_peer((text, 443), port=443)


@pytest.mark.parametrize("peer", [(), ("/run/redis.sock",), (b"127.0.0.1", 443), (None, 443)])
def test_a_peer_that_is_no_internet_address_is_not_dialled(peer: tuple[object, ...]) -> None:
    with pytest.raises(Blocked):
        HOUSE.check_peer(peer, port=443)


@pytest.mark.parametrize("host", LOOPBACK)
@pytest.mark.parametrize("end", ["", "/", ":443/", ":8443/hook?x=1"])
def test_no_spelling_of_this_machine_gets_past_the_url_check_as_an_address(
    host: str, end: str
) -> None:
    """Names may get past: only dialling shows where they lead. Numbers and tricks may not."""
    if host in {"localhost.localdomain", "ip6-localhost"}:
        STRANGER.check_url(f"https://{host}{end}")
        return
    with pytest.raises(Invalid) as refused:
        STRANGER.check_url(f"https://{host}{end}")
    assert not host.strip() or host not in refused.value.detail, "what was asked is not repeated"


@pytest.mark.parametrize("address", PLACES)
def test_a_url_of_an_address_inside_is_refused_at_once(address: str) -> None:
    host = f"[{address}]" if ":" in address else address

    with pytest.raises(Invalid):
        STRANGER.check_url(f"https://{host}/")


@pytest.mark.parametrize("address", PUBLIC)
def test_a_url_of_a_public_address_is_fine(address: str) -> None:
    STRANGER.check_url(f"https://{f'[{address}]' if ':' in address else address}/")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/",
        "HTTPS://EXAMPLE.COM/Hook",
        "https://example.com:443/hook?token=a%20b&c=[d]",
        "https://a-b.example.com:8443/~x/'y'/(z);v=1,2*3!$",
        "https://example.com:80/",
        "https://xn--nxasmq6b.example/",
        "https://_dmarc.example.com/",
        "https://1.2.3.4.example.com/",
        "https://hooks/short",
        f"https://{'a' * 63}.example/",
        "https://example.com/" + "x" * 2028,
    ],
)
def test_an_ordinary_url_is_fine(url: str) -> None:
    STRANGER.check_url(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "https://"),
        ("example.com/hook", "https://"),
        ("ftp://example.com/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("gopher://example.com/", "https://"),
        ("//example.com/", "https://"),
        ("https:/example.com/", "https://"),
        ("http://example.com/", "https://"),
        ("https://example.com:22/", "port"),
        ("https://example.com:6379/", "port"),
        ("https://example.com:0/", "port"),
        ("https://example.com:65536/", "port"),
        ("https://example.com:99999/", "port"),
        ("https://example.com:/", "can be called"),
        ("https://example.com:443:443/", "can be called"),
        ("https://example.com:٤٤٣/", "ASCII"),
        ("https://me@example.com/", "user or password"),
        ("https://me:secret@example.com/", "user or password"),
        ("https://example.com/#part", "fragment"),
        ("https://example.com#part", "fragment"),
        ("https://exa mple.com/", "can be called"),
        ("https://example.com/a b", "can be called"),
        ("https://example.com/\r\nHost: x", "can be called"),
        ("https://example.com/\x00", "can be called"),
        ("https://example.com\\@10.0.0.1/", "can be called"),
        ("https://münchen.example/", "ASCII"),
        ("https://example.com/münchen", "ASCII"),
        ("https://example..com/", "name"),
        ("https://.example.com/", "name"),
        ("https://-a.example/", "name"),
        ("https://a-.example/", "name"),
        (f"https://{'a' * 64}.example/", "name"),
        ("https://" + ".".join(["a" * 60] * 4 + ["example", "co"]) + "/", "name"),
        ("https://example.com/" + "x" * 2029, "2048"),
        ("https://1.2.3/", "four decimal numbers"),
        ("https://example.0x10/", "four decimal numbers"),
        ("https://[::g]/", "can be called"),
        ("https://[1.2.3.4]/", "not an address"),
        ("https://[::1]x/", "can be called"),
        ("https://10.0.0.1/", BLOCKED),
        ("https://localhost/", BLOCKED),
    ],
)
def test_a_url_that_could_never_be_called_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(Invalid) as refused:
        STRANGER.check_url(url)

    assert why in refused.value.detail


@given(st.text(max_size=80))
def test_a_url_of_any_text_is_fine_or_invalid(text: str) -> None:
    for url in (text, f"https://{text}", f"https://example.com/{text}"):
        try:
            HOUSE.check_url(url)
        except Invalid:
            continue
        else:
            assert url.isascii()
            assert url.isprintable()


@pytest.mark.parametrize(
    "url",
    [
        "http://192.168.1.7/topic",
        "http://192.168.1.7:2586/topic",
        "https://192.168.1.7:6443/",
        "http://[::ffff:192.168.1.7]:8080/",
        "http://[fd00:1::7]:8080/",
        "http://localhost:8000/",
        "http://ntfy.lan:8080/",  # its address is seen when it is dialled
    ],
)
def test_what_the_operator_allowed_may_speak_plain_http_to_any_port(url: str) -> None:
    HOUSE.check_url(url)
    with pytest.raises(Invalid):
        STRANGER.check_url(url)


def test_a_public_address_beside_the_allowed_ones_still_needs_tls_and_a_port_of_the_web() -> None:
    HOUSE.check_peer(("192.168.1.7", 2586), port=2586, secure=False)
    HOUSE.check_peer(("::ffff:192.168.1.7", 2586, 0, 0), port=2586, secure=False)
    HOUSE.check_peer(("8.8.8.8", 8443), port=8443)
    HOUSE.check_peer(("8.8.8.8", 587))  # a protocol with ports of its own
    for port, secure in ((2586, True), (443, False), (80, False)):
        with pytest.raises(Blocked):
            HOUSE.check_peer(("8.8.8.8", port), port=port, secure=secure)
    for url in ("http://8.8.8.8/", "https://8.8.8.8:2586/"):
        with pytest.raises(Invalid):
            HOUSE.check_url(url)


@pytest.mark.parametrize("address", [place for place in PLACES if place != "127.0.0.1"])
def test_allowing_one_network_opens_no_other(address: str) -> None:
    house = Egress(parse_allow("192.168.7.0/24"))

    assert not house.permits(address)


def test_the_allow_list_reads_addresses_and_networks() -> None:
    def written(text: str) -> list[str]:
        return [str(network) for network in parse_allow(text)]

    assert written("") == []
    assert written(" 10.0.0.0/8,192.168.1.7\n fd00::/8 , ::1 ") == [
        "10.0.0.0/8",
        "192.168.1.7/32",
        "fd00::/8",
        "::1/128",
    ]
    assert written("::ffff:10.0.0.0/104 ::ffff:10.1.2.3") == ["10.0.0.0/8", "10.1.2.3/32"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.1/8", "did you mean 10.0.0.0/8?"),
        ("lan", "lan is no address or network"),
        ("10.0.0.0/33", "is no address or network"),
        ("localhost", "is no address or network"),
        ("fe80::1%eth0", "zone"),
        ("http://10.0.0.1", "is no address or network"),
        ("127.1", "is no address or network"),
    ],
)
def test_a_mistake_in_the_allow_list_is_named(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_allow(f"10.0.0.0/8 {text}")

    assert why in str(refused.value)


@given(st.lists(st.ip_addresses().map(ip_network), max_size=4), st.ip_addresses())
def test_an_allowed_address_is_permitted_in_every_way_it_can_be_written(
    networks: list[Network], address: Address
) -> None:
    allowed = ip_network(address)
    egress = Egress([*networks, *parse_allow(str(allowed))])

    assert egress.permits(address)
    assert egress.permits(str(address))
    if isinstance(address, IPv4Address):
        assert egress.permits(f"::ffff:{address}")
