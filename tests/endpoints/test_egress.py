"""The one way out: which addresses, in which spelling, are never connected to."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from endpoints.addresses import Zone, normalise_host
from endpoints.egress import BlockedAddress, Egress, Target, own_doors, parse_zones
from endpoints.transports.base import Advice, ErrorClass, TransportError
from endpoints.transports.http import HttpTransport
from tests.contract.peers import address, outgoing
from tests.servers.answers import HUGE, redirect
from tests.servers.fixtures import http_receiver  # noqa: F401
from tests.servers.http import HttpReceiver

LOCAL = parse_zones(["127.0.0.0/8", "::1/128"])

FORBIDDEN = [
    # loopback, in every spelling
    *("127.0.0.1", "127.255.255.254", "127.1", "127.0.1", "0177.0.0.1", "0x7f.1", "0x7f000001", "2130706433"),
    *("017700000001", "0x7f.0x0.0x0.0x1", "127.0.0.1.", "１２７.0.0.1", "127。0。0。1", "①②⑦.0.0.1", "0"),
    *("::1", "[::1]", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "::", "0.0.0.0"),
    # private, shared, link-local and metadata
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "169.254.1.1", "fe80::1", "fd00::1"),
    *("169.254.169.254", "2852039166", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "::ffff:169.254.169.254"),
    # IPv4 inside IPv6: NAT64, local NAT64, 6to4, Teredo, translated
    *("64:ff9b::169.254.169.254", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1"),
    *("2001:0:4136:e378:8000:63bf:3fff:fdd2", "::ffff:0:127.0.0.1"),
    # nobody's
    *("192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "224.0.0.1", "239.255.255.255", "240.0.0.1"),
    *("255.255.255.255", "2001:db8::1", "ff02::1", "100::1", "4000::1", "fec0::1", "192.0.0.8", "192.88.99.1"),
]
MALFORMED = [
    *(
        "",
        " ",
        "user@example.org",
        "user:pass@example.org",
        "example.org\\@127.0.0.1",
        "exa mple.org",
        "a\nb",
        "a\x00b",
    ),
    *("example.org/path", "example.org:80", "example.org#x", "example.org?x", "-a.org", "a..b", ".", "a" * 64 + ".org"),
    *("[::1", "::1]", "fe80::1%eth0", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.0x4", "%31%32%37.0.0.1", "\u202e.org"),
]
ALLOWED = ["8.8.8.8", "2606:4700:4700::1111", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8", "172.32.0.1", "100.128.0.1"]


@pytest.fixture
def canary() -> Iterator[HttpReceiver]:
    """A receiver on loopback that nobody may reach."""
    with HttpReceiver() as receiver:
        yield receiver
        assert receiver.connections == 0, "the canary was reached"


@pytest.mark.parametrize("host", FORBIDDEN)
async def test_a_forbidden_address_in_any_spelling_is_refused(host: str) -> None:
    with pytest.raises(BlockedAddress) as caught:
        await Egress().resolve(host, 80)

    assert (caught.value.error_class, caught.value.advice) == (ErrorClass.BLOCKED_ADDRESS, Advice.DEAD)


@pytest.mark.parametrize("host", MALFORMED)
async def test_a_malformed_host_is_refused_before_any_lookup(host: str) -> None:
    async def never(_: str) -> list[str]:
        raise AssertionError("it was looked up")

    with pytest.raises(BlockedAddress):
        await Egress(lookup=never).resolve(host, 80)


@pytest.mark.parametrize("host", ALLOWED)
async def test_a_public_address_is_allowed(host: str) -> None:
    assert [ip_address(target.address) for target in await Egress().resolve(host, 443)] == [ip_address(host)]


@pytest.mark.parametrize("host", FORBIDDEN)
async def test_a_forbidden_address_is_never_connected_to(host: str, canary: HttpReceiver) -> None:
    bare = host.strip("[]")
    transport = HttpTransport(address(host=host, port=canary.port), Egress())
    await transport.open()
    try:
        with pytest.raises(TransportError) as caught:
            await transport.send(outgoing())
        assert caught.value.error_class is ErrorClass.BLOCKED_ADDRESS
        with pytest.raises(TransportError):
            await Egress().fetch(f"http://{f'[{bare}]' if ':' in bare else bare}:{canary.port}/")
    finally:
        await transport.aclose()


async def test_a_name_with_one_forbidden_address_is_refused_whole() -> None:
    async def mixed(_: str) -> list[str]:
        return ["8.8.8.8", "127.0.0.1"]

    with pytest.raises(BlockedAddress, match=r"127\.0\.0\.1 \(of mixed\.example\)"):
        await Egress(lookup=mixed).resolve("mixed.example", 80)


async def test_a_rebinding_name_is_checked_again_on_every_connection(http_receiver: HttpReceiver) -> None:  # noqa: F811
    """The connection goes to the address that was checked: a second answer is checked anew."""
    answers = [["127.0.0.1"], ["127.0.0.2"]]

    async def rebinding(_: str) -> list[str]:
        return answers.pop(0)

    for wanted in ("delivered", "refused"):
        egress = Egress([Zone(parse_zones(["127.0.0.1/32"])[0].network)], lookup=rebinding)
        transport = HttpTransport(address(host="rebind.example", port=http_receiver.port), egress)
        await transport.open()
        try:
            await transport.send(outgoing())
            assert wanted == "delivered"
        except BlockedAddress:
            assert wanted == "refused"
        finally:
            await transport.aclose()
    assert http_receiver.received[0].headers["host"] == f"rebind.example:{http_receiver.port}"
    assert http_receiver.connections == 1


async def test_a_redirect_is_not_followed(http_receiver: HttpReceiver, canary: HttpReceiver) -> None:  # noqa: F811
    http_receiver.answer(redirect(canary.url))
    transport = HttpTransport(address(port=http_receiver.port), Egress(LOCAL))
    await transport.open()
    with pytest.raises(TransportError) as caught:
        await transport.send(outgoing())
    await transport.aclose()

    assert (caught.value.error_class, caught.value.advice) == (ErrorClass.PROTOCOL, Advice.DEAD)
    assert (await Egress(LOCAL).fetch(http_receiver.url)).status == 302


async def test_a_proxy_of_the_environment_is_not_used(
    http_receiver: HttpReceiver,  # noqa: F811
    canary: HttpReceiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, canary.url)

    assert (await Egress(LOCAL).fetch(http_receiver.url)).status == 200


async def test_only_checked_addresses_are_connected_to(http_receiver: HttpReceiver) -> None:  # noqa: F811
    seen: set[object] = set()
    watching = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "socket.connect":
            seen.add(arguments[1])

    sys.addaudithook(hook)
    await Egress(LOCAL).fetch(f"http://localhost:{http_receiver.port}/")
    watching = False

    assert {(str(host), port) for host, port, *_ in seen} <= {  # type: ignore[misc]
        ("127.0.0.1", http_receiver.port),
        ("::1", http_receiver.port),
    }


async def test_an_unknown_name_is_a_dns_error() -> None:
    async def unknown(_: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(TransportError, match="nowhere") as caught:
        await Egress(lookup=unknown).resolve("nowhere.example", 80)
    assert (caught.value.error_class, caught.value.advice) == (ErrorClass.DNS, Advice.RETRY)


async def test_our_own_door_is_no_target() -> None:
    egress = Egress(LOCAL, own=own_doors("http://127.0.0.1:8000"))

    with pytest.raises(BlockedAddress, match="our own door"):
        await egress.resolve("127.0.0.1", 8000)
    assert await egress.resolve("127.0.0.1", 8101) == [Target("127.0.0.1", 8101, socket.AF_INET)]


async def test_a_zone_opens_its_network_on_its_port_only() -> None:
    egress = Egress(parse_zones(["10.1.0.0/16:8443", "[fd12::/16]:443"]))

    assert [target.address for target in await egress.resolve("10.1.2.3", 8443)] == ["10.1.2.3"]
    assert [target.address for target in await egress.resolve("fd12::1", 443)] == ["fd12::1"]
    for host, port in (("10.1.2.3", 80), ("10.2.0.1", 8443), ("fd12::1", 80)):
        with pytest.raises(BlockedAddress):
            await egress.resolve(host, port)


@pytest.mark.parametrize(
    ("zone", "metadata", "opens"),
    [
        ("169.254.0.0/16", "169.254.169.254", False),
        ("169.254.169.254/32", "169.254.169.254", True),
        ("fc00::/7", "fd00:ec2::254", False),
        ("0.0.0.0/0", "169.254.169.254", False),
    ],
)
async def test_a_metadata_service_opens_only_to_a_zone_that_names_it(zone: str, metadata: str, opens: bool) -> None:
    egress = Egress(parse_zones([zone]))
    if opens:
        assert await egress.resolve(metadata, 80)
        return
    with pytest.raises(BlockedAddress, match="metadata"):
        await egress.resolve(metadata, 80)


@pytest.mark.parametrize(
    "entry", ["10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/8:0", "10.0.0.0/8:65536", "fd00::/8]:80", "example.org", "*", "/8"]
)
def test_a_zone_that_is_not_exact_is_an_error_that_names_it(entry: str) -> None:
    with pytest.raises(ValueError, match="egress zone"):
        parse_zones([entry])


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("Example.ORG.", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("my_service", "my_service"),
        ("[2606:4700:0:0::1]", "2606:4700::1"),
    ],
)
def test_a_host_has_one_canonical_spelling(host: str, canonical: str) -> None:
    assert normalise_host(host) == canonical


async def test_a_name_is_asked_for_once_by_many_and_kept_for_a_moment() -> None:
    asked: list[str] = []

    async def slow(host: str) -> list[str]:
        asked.append(host)
        await asyncio.sleep(0)
        return ["8.8.8.8"]

    egress = Egress(lookup=slow)
    await asyncio.gather(*(egress.resolve("one.example", port) for port in range(1, 20)))
    await egress.resolve("one.example", 80)

    assert asked == ["one.example"]


@pytest.mark.parametrize("url", ["http://[::1/", "http://user:pass@127.0.0.1/", "file:///etc/passwd", "", "http://"])
async def test_a_url_that_is_not_plainly_one_is_refused(url: str) -> None:
    with pytest.raises(BlockedAddress):
        await Egress(LOCAL).fetch(url)


async def test_an_answer_over_the_cap_is_an_error_not_a_prefix(http_receiver: HttpReceiver) -> None:  # noqa: F811
    http_receiver.answer(HUGE)

    with pytest.raises(TransportError, match="over 1024 bytes"):
        await Egress(LOCAL).fetch(http_receiver.url, max_bytes=1024)
