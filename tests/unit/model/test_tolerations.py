"""Which taints of a node keep a model away."""

from typing import Any

import pytest

from libs.model.tolerations import Taint, taints_of, untolerated

GPU = Taint("nvidia.com/gpu", "present", "NoSchedule")


def test_taints_that_only_ask_and_those_of_kubernetes_itself_keep_no_model_away() -> None:
    node = {
        "spec": {
            "taints": [
                {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
                {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"},
                {"key": "spot", "value": "true", "effect": "PreferNoSchedule"},
                {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},
                {"key": "maintenance", "effect": "NoExecute"},
            ]
        }
    }
    assert taints_of(node) == (GPU, Taint("maintenance", "", "NoExecute"))
    assert [str(each) for each in taints_of(node)] == ["nvidia.com/gpu=present:NoSchedule", "maintenance:NoExecute"]
    assert taints_of({}) == ()


@pytest.mark.parametrize(
    ("toleration", "tolerates"),
    [
        ({"key": "nvidia.com/gpu", "operator": "Exists"}, True),
        ({"key": "nvidia.com/gpu", "value": "present"}, True),
        ({"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"}, True),
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "nvidia.com/gpu"}, False),
        ({"key": "nvidia.com/gpu", "value": "absent"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"operator": "Exists", "effect": "NoExecute"}, False),
        ({"value": "present"}, False),
    ],
)
def test_a_toleration_means_what_it_means_for_pods(toleration: dict[str, Any], tolerates: bool) -> None:
    assert (untolerated({"tolerations": [toleration]}, [GPU]) is None) is tolerates


def test_a_model_without_tolerations_minds_no_taint_and_one_with_an_empty_list_minds_all() -> None:
    assert untolerated({}, [GPU]) is None
    assert untolerated({"tolerations": []}, [GPU]) == GPU
    assert untolerated({"tolerations": []}, []) is None
