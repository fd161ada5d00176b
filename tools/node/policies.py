"""Compiles NetworkPolicies to rules of nftables, for nodes whose network enforces none by itself: pure.

Owns what an enforcing network does with the policies of these tests: Pods, namespaces, blocks of addresses, ports by
number and name. IPv4 alone, as the nodes here have it. What the node itself sends, such as probes, is not filtered.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Object = dict[str, Any]

TABLE = "ip pod-policies"
_ENDED = ("Succeeded", "Failed")


def ruleset(policies: Sequence[Object], pods: Sequence[Object], namespaces: Sequence[Object]) -> str:
    """A script for `nft -f` that replaces the table as a whole."""
    labels = {item["metadata"]["name"]: item["metadata"].get("labels", {}) for item in namespaces}
    running = [pod for pod in pods if _has_address(pod)]
    chains: list[str] = []
    jumps: list[str] = []
    for pod in running:
        for direction, end, side in (("Egress", "out", "saddr"), ("Ingress", "in", "daddr")):
            selecting = [policy for policy in policies if _isolates(policy, pod, direction)]
            if not selecting:
                continue
            name = f"{end}-{_address(pod).replace('.', '-')}"
            allowed = [
                f"  {words}" for policy in selecting for words in _allowed(policy, direction, pod, running, labels)
            ]
            chains += [f" chain {name} {{", *allowed, "  drop", " }"]
            jumps.append(f"  ip {side} {_address(pod)} jump {name}")
    head = [" chain forward {", "  type filter hook forward priority 10; policy accept;"]
    answers = "  ct state established,related accept"
    return "\n".join(
        (f"table {TABLE}", f"delete table {TABLE}", f"table {TABLE} {{", *chains, *head, answers, *jumps, " }", "}", "")
    )


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector matches labels; an empty one matches all."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for each in selector.get("matchExpressions", ()):
        key, values = each["key"], each.get("values", ())
        holds = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not holds[each["operator"]]:
            return False
    return True


def _allowed(
    policy: Object, direction: str, pod: Object, pods: Sequence[Object], namespaces: Mapping[str, Object]
) -> Iterator[str]:
    """The lines that let through what a policy allows."""
    peers_key, side = ("to", "daddr") if direction == "Egress" else ("from", "saddr")
    for rule in policy["spec"].get(direction.lower(), ()):
        peers = rule.get(peers_key)
        found = list(_peers(policy, peers, side, pods, namespaces)) if peers else [None]
        for peer, port in itertools.product(found, rule.get("ports") or [None]):
            # A name of a port is one of the Pod that is called.
            called = [pod] if direction == "Ingress" else (peer[1] if peer else pods)
            words = [f"ip {side} {peer[0]}"] if peer else []
            if port is None:
                yield " ".join([*words, "return"])
                continue
            for number in _numbers(port, called):
                yield " ".join([*words, f"{port.get('protocol', 'TCP').lower()} dport {number} return"])


def _peers(
    policy: Object, peers: Iterable[Object], side: str, pods: Sequence[Object], namespaces: Mapping[str, Object]
) -> Iterator[tuple[str, list[Object]]]:
    """Addresses as nft writes them, with the Pods that have them."""
    for peer in peers:
        if block := peer.get("ipBlock"):
            if ":" not in block["cidr"]:
                spared = ", ".join(each for each in block.get("except", ()) if ":" not in each)
                yield (f"{block['cidr']} ip {side} != {{ {spared} }}" if spared else block["cidr"]), []
            continue
        found = [pod for pod in pods if _is_peer(policy, peer, pod, namespaces)]
        if found:
            yield f"{{ {', '.join(sorted(map(_address, found)))} }}", found


def _is_peer(policy: Object, peer: Object, pod: Object, namespaces: Mapping[str, Object]) -> bool:
    namespace = pod["metadata"]["namespace"]
    if "namespaceSelector" in peer:
        near = selects(peer["namespaceSelector"], namespaces.get(namespace, {}))
    else:
        near = namespace == policy["metadata"]["namespace"]
    return near and selects(peer.get("podSelector", {}), pod["metadata"].get("labels", {}))


def _numbers(port: Object, called: Iterable[Object]) -> list[str]:
    value = port.get("port")
    if value is None:
        return ["0-65535"]
    if isinstance(value, int):
        return [f"{value}-{port['endPort']}" if "endPort" in port else str(value)]
    containers = [container for pod in called for container in pod["spec"]["containers"]]
    declared = [each for container in containers for each in container.get("ports", ())]
    return sorted({str(each["containerPort"]) for each in declared if each.get("name") == value})


def _isolates(policy: Object, pod: Object, direction: str) -> bool:
    spec = policy["spec"]
    kinds = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    same = policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
    return same and direction in kinds and selects(spec.get("podSelector", {}), pod["metadata"].get("labels", {}))


def _has_address(pod: Object) -> bool:
    status = pod.get("status", {})
    return bool(status.get("podIP")) and not pod["spec"].get("hostNetwork") and status.get("phase") not in _ENDED


def _address(pod: Object) -> str:
    return str(pod["status"]["podIP"])
