"""Which addresses a sandbox is never connected to."""

from ipaddress import ip_address, ip_network

import pytest

from carrel.policy.egress.addresses import address_refused


@pytest.mark.parametrize(
    "text",
    [
        "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
        "168.63.129.16", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1",
        "192.168.1.1", "198.18.0.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1", "2001:0:1::1", "fc00::1", "fd00:ec2::254", "fe80::1",
        "fec0::1", "ff02::1", "2001:db8::1", "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:10.0.0.1", "100::1",
    ],
)  # fmt: skip
def test_S4_03_what_is_not_public_is_refused(text: str) -> None:
    assert address_refused(ip_address(text)) is not None


@pytest.mark.parametrize(
    "text",
    ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1", "193.0.0.1",
     "2606:4700:4700::1111", "2a00:1450:4001:81b::200e", "64:ff9b::101:101", "2002:101:101::1", "::ffff:1.1.1.1"],
)  # fmt: skip
def test_S4_03_what_is_public_is_not(text: str) -> None:
    assert address_refused(ip_address(text)) is None


def test_S4_03_the_machines_own_addresses_are_refused_although_public() -> None:
    own = {ip_address("203.0.114.7"), ip_address("fe80::1")}
    assert address_refused(ip_address("203.0.114.7"), own=own) == "203.0.114.7 is this machine's own"
    assert address_refused(ip_address("203.0.114.8"), own=own) is None
    assert address_refused(ip_address("::ffff:203.0.114.7"), own=own) is not None


def test_S4_03_what_a_rule_of_the_operators_names_is_not_refused_and_nothing_beside_it() -> None:
    permitted = [ip_network("10.1.0.0/16")]
    assert address_refused(ip_address("10.1.2.3"), permitted=permitted) is None
    assert address_refused(ip_address("10.2.2.3"), permitted=permitted) is not None
    assert address_refused(ip_address("::1"), permitted=permitted) is not None
