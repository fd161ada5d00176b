"""The linear modules that headers tell of, by which adapters and bases are held against each other."""

import time

from services.parser.modules import modules_of_adapter, modules_of_model
from services.parser.safetensors import Tensor


def tensors(dtype: str = "BF16", **shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name.replace("__", "."): Tensor(dtype, 1, 2, shape) for name, shape in shapes.items()}


def listed(found: object) -> list[tuple[str, int, int]]:
    return [(each.name, each.inputs, each.outputs) for each in found]  # type: ignore[attr-defined]


def test_layers_of_equal_widths_share_an_entry_and_other_tensors_have_none() -> None:
    found = modules_of_model(
        tensors(
            model__layers__0__q_proj__weight=(64, 64),
            model__layers__1__q_proj__weight=(64, 64),
            model__layers__0__k_proj__weight=(16, 64),
            model__norm__weight=(64,),
            model__layers__0__q_proj__bias=(64,),
        )
    )
    assert listed(found) == [("k_proj", 64, 16), ("q_proj", 64, 64)]


def test_an_item_of_a_list_goes_by_the_name_of_the_list() -> None:
    assert listed(modules_of_model(tensors(model__net__0__weight=(8, 4)))) == [("net", 4, 8)]


def test_packed_weights_give_no_list_as_it_would_not_be_complete() -> None:
    packed = tensors("I32", model__layers__0__q_proj__qweight=(8, 64))
    assert modules_of_model({**packed, **tensors(lm_head__weight=(100, 64))}) == []


def test_more_modules_than_are_listed_give_no_list() -> None:
    many = {f"module_{n}.weight": Tensor("F32", 1, 2, (2, n)) for n in range(65)}
    assert modules_of_model(many) == []


def test_pairs_of_low_rank_matrices_tell_the_widths_of_the_module_that_they_change() -> None:
    peft = tensors(
        base_model__model__layers__0__q_proj__lora_A__weight=(8, 64),
        base_model__model__layers__0__q_proj__lora_B__weight=(32, 8),
        base_model__model__layers__0__v_proj__lora_A__default__weight=(8, 64),
        base_model__model__layers__0__v_proj__lora_B__default__weight=(16, 8),
    )
    assert listed(modules_of_adapter(peft)) == [("q_proj", 64, 32), ("v_proj", 64, 16)]


def test_mlx_stores_the_pairs_the_other_way_round() -> None:
    assert listed(
        modules_of_adapter(tensors(layers__0__q_proj__lora_a=(64, 8), layers__0__q_proj__lora_b=(8, 32)))
    ) == [("q_proj", 64, 32)]


def test_a_matrix_without_its_partner_or_with_one_of_another_rank_tells_nothing() -> None:
    assert modules_of_adapter(tensors(q__lora_A__weight=(8, 64))) == []
    assert modules_of_adapter(tensors(q__lora_A__weight=(8, 64), q__lora_B__weight=(64, 4))) == []


def test_a_name_made_to_be_slow_costs_no_more_than_its_length() -> None:
    slow = {"x" + ".lora_A" * 20_000 + ".": Tensor("F32", 1, 2, (2, 2))}
    began = time.process_time()
    assert modules_of_adapter(slow) == []
    assert time.process_time() - began < 1.0


def test_names_and_widths_that_no_module_has_give_no_list() -> None:
    for name, shape in (("m" * 100_000, (2, 2)), ("m", (0, 2**70))):
        assert modules_of_model({f"{name}.weight": Tensor("F32", 1, 2, shape)}) == []
        pair = {f"{name}.lora_A": Tensor("F32", 1, 2, shape), f"{name}.lora_B": Tensor("F32", 1, 2, (2, shape[0]))}
        assert modules_of_adapter(pair) == []
