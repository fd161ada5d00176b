"""Sizes as people write them."""

import pytest

from services.parser.naming import size_name


@pytest.mark.parametrize(
    ("count", "name"),
    [
        (6_738_415_616, "7B"),
        (7_241_732_096, "7B"),
        (8_030_261_248, "8B"),
        (1_235_814_400, "1B"),
        (1_543_714_304, "1.5B"),
        (494_032_768, "0.5B"),
        (335_141_888, "335M"),
        (70_553_706_496, "70B"),
        (405_853_388_800, "405B"),
        (671_026_404_352, "671B"),
        (1_026_408_209_408, "1T"),
        (46_282, "46K"),
        (12, "12"),
        (0, ""),
    ],
)
def test_counts_are_rounded_as_publishers_round(count: int, name: str) -> None:
    assert size_name(count) == name


@pytest.mark.parametrize(
    ("count", "published", "name"),
    [
        (46_702_792_704, "mistralai/Mixtral-8x7B-v0.1", "8x7B"),
        (108_641_793_536, "meta-llama/Llama-4-Scout-17B-16E", "108B"),
        (116_829_156_672, "openai/gpt-oss-120b", "120B"),
        (3_085_938_688, "Qwen/Qwen2.5-3B", "3B"),
        (8_030_261_248, "org/Llama-2-70B-distilled", "8B"),
        (8_030_261_248, "model-v1.5b2", "8B"),
    ],
)
def test_the_publishers_word_is_taken_when_it_fits_the_count(count: int, published: str, name: str) -> None:
    assert size_name(count, published) == name


def test_mixtures_that_are_called_by_their_experts_are_named_so() -> None:
    assert size_name(46_702_792_704, experts=(8, 7_241_732_096)) == "8x7B"
