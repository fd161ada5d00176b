from tools.localcluster.addresses import AddressPlan, claimed_plan, to_loopback


def test_two_clusters_never_share_addresses() -> None:
    with claimed_plan() as first, claimed_plan() as second:
        assert first.number != second.number


def test_pod_addresses_are_unique_and_not_reused_at_once() -> None:
    plan = AddressPlan(7)
    first, second = plan.claim_pod_address(), plan.claim_pod_address()
    assert first != second
    plan.release_pod_address(first)
    assert plan.claim_pod_address() not in (first, second)


def test_pod_addresses_run_out_only_when_all_are_taken_and_avoid_the_ends_of_each_block() -> None:
    plan = AddressPlan(7)
    taken = [plan.claim_pod_address() for _ in range(127 * 254)]
    assert len(set(taken)) == len(taken)
    assert not any(address.endswith((".0", ".255")) for address in taken)
    plan.release_pod_address(taken[100])
    assert plan.claim_pod_address() == taken[100]


def test_name_of_a_service_keeps_its_address_apart_from_pods_and_nodes() -> None:
    plan = AddressPlan(7)
    parser = plan.name_address("ome", "ome-parser")
    assert parser == plan.name_address("ome", "ome-parser") != plan.name_address("ome", "ome-status")
    assert parser.startswith("127.7.192.")


def test_process_behind_an_address_listens_on_the_loopback_twin() -> None:
    assert to_loopback("10.7.1.2") == "127.7.1.2"
