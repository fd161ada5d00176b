"""How long work waits that must not take all of the time."""

from libs.chassis.budget import Budget


def test_one_key_waits_for_little_more_than_its_own_work() -> None:
    budget: Budget[str] = Budget(share=0.25, longest_seconds=10)
    for _ in range(100):
        budget.patience_seconds("m")
        budget.spent("m", 0.01)

    assert 0.03 < budget.patience_seconds("m") < 0.05


def test_many_keys_wait_so_that_all_of_them_together_take_their_share() -> None:
    budget: Budget[int] = Budget(share=0.25, longest_seconds=100)
    for number in range(400):
        budget.patience_seconds(number)
    for number in range(200):
        budget.spent(number, 0.01)

    # 200 that are left take 2 s, which are a quarter of 8 s.
    assert 7.5 < budget.patience_seconds(399) < 8.5
    budget.forget(399)
    assert budget.patience_seconds(398) < 8


def test_no_key_waits_longer_than_the_limit() -> None:
    budget: Budget[int] = Budget(share=0.01, longest_seconds=10)
    budget.spent(0, 100)

    assert budget.patience_seconds(1) == 10
