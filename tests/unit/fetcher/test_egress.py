"""Which addresses a model may reach, by its scope and by what the operator lists."""

import pytest

from services.fetcher.transfer.egress import ANYWHERE, Rule, read_networks

CLUSTER = read_networks(("10.96.0.0/12", "10.96.0.1/32", "fd00:96::/112"))[0]
TENANT, TEAM = Rule(cluster=CLUSTER), Rule(namespaced=False, cluster=CLUSTER)

FORBIDDEN = (
    "127.0.0.1", "127.255.0.9", "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "224.0.0.1", "239.1.2.3",
    "255.255.255.255", "100.100.100.200", "168.63.129.16", "192.0.0.192", "::", "::1", "fe80::1", "fe80::1%eth0",
    "ff02::1", "fd00:ec2::254", "fd20:ce::254",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "2002:7f00:1::", "2002:a9fe:a9fe::1",
    "64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "64:ff9b:1::a9fe:a9fe", "::ffff:0:169.254.169.254",
    "2001:0:a9fe:a9fe:0:0:0:0", "2001:0:808:808:0:0:5601:5601",
)  # fmt: skip
INSIDE = ("10.96.0.1", "10.97.3.4", "fd00:96::1", "::ffff:10.96.0.1", "64:ff9b::10.96.0.1")
PRIVATE = (
    "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "198.18.0.1", "240.0.0.1", "192.0.2.1",
    "::ffff:10.0.0.1", "2002:a00:1::", "64:ff9b::192.168.1.1",
)  # fmt: skip
PUBLIC = ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::")


@pytest.mark.parametrize("address", FORBIDDEN)
def test_no_model_reaches_the_machine_its_link_or_what_a_cloud_tells_a_machine(address: str) -> None:
    for rule in (TENANT, TEAM, Rule(networks=read_networks(("0.0.0.0/0", "::/0"))[0]), Rule(hosts=("x.example",))):
        assert "no model may reach" in rule.refusal("x.example", 443, address)


@pytest.mark.parametrize("address", INSIDE)
def test_no_model_reaches_the_cluster(address: str) -> None:
    for rule in (TENANT, TEAM, Rule(networks=read_networks(("10.0.0.0/8",))[0], cluster=CLUSTER)):
        said = rule.refusal("x.example", 443, address)
        assert "an address of this cluster: the administrator can add 'x.example', or its network, to egress" in said


@pytest.mark.parametrize("address", PRIVATE)
def test_private_networks_are_for_models_of_the_cluster(address: str) -> None:
    assert "BaseModels may not reach" in TENANT.refusal("x.example", 443, address)
    assert TEAM.refusal("x.example", 443, address) == ""


@pytest.mark.parametrize("address", PUBLIC)
def test_every_model_reaches_what_is_public(address: str) -> None:
    for rule in (TENANT, TEAM):
        assert rule.refusal("x.example", 443, address) == ""


@pytest.mark.parametrize(
    ("listed", "host", "address", "allowed"),
    [
        ("10.1.0.0/16", "x.example", "10.1.2.3", True),
        ("10.1.0.0/16", "x.example", "::ffff:10.1.2.3", True),
        ("10.1.0.0/16", "x.example", "10.2.2.3", False),
        ("10.1.2.3", "x.example", "10.1.2.3", True),
        ("store.example", "store.example", "10.2.2.3", True),
        ("store.example", "STORE.example.", "10.2.2.3", True),
        ("store.example", "other.example", "10.2.2.3", False),
        ("*.example", "store.example", "10.97.0.9", True),
        ("*.example", "store.example", "127.0.0.1", False),
        ("127.0.0.0/8", "store.example", "127.0.0.1", True),
        ("127.0.0.0/8", "store.example", "169.254.169.254", False),
        ("169.254.169.254", "store.example", "169.254.169.254", True),
        ("10.97.0.0/24", "store.example", "10.97.0.9", True),
        ("10.96.0.0/12", "store.example", "10.96.0.1", False),
        ("10.96.0.1", "store.example", "10.96.0.1", True),
        ("::1", "store.example", "::1", True),
    ],
)
def test_the_operator_lists_more(listed: str, host: str, address: str, allowed: bool) -> None:
    networks, hosts = read_networks((listed,))
    rule = Rule(networks=networks, hosts=hosts, cluster=CLUSTER)
    assert (rule.refusal(host, 443, address) == "") is allowed


def test_a_source_that_the_operator_has_configured_is_reached_at_its_port_wherever_it_is() -> None:
    rule = Rule(own=(("hub.internal", 8080),))
    assert rule.refusal("Hub.internal", 8080, "127.0.0.1") == ""
    assert rule.refusal("hub.internal", 22, "127.0.0.1")
    assert rule.refusal("other.internal", 8080, "127.0.0.1")


def test_the_identity_of_the_pod_is_asked_for_by_those_who_may_use_it() -> None:
    rule = Rule(identity=True)
    assert rule.refusal("metadata.google.internal", 80, "169.254.169.254") == ""
    assert rule.refusal("169.254.169.253", 80, "169.254.169.253")
    assert ANYWHERE.refusal("x", 1, "127.0.0.1") == ""


def test_a_refusal_does_not_tell_the_address() -> None:
    for address in ("10.1.2.3", "10.96.0.9", "169.254.169.254"):
        assert address not in TENANT.refusal("x.example", 443, address)


def test_an_entry_that_is_neither_is_refused() -> None:
    for entry in ("10.0.0.0/33", "10.0.0.1/8", "*", "host/path"):
        with pytest.raises(ValueError, match="neither a network"):
            read_networks((entry,))
