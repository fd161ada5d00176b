"""How fast nodes have downloaded lately."""

from services.status.rates import Rates


def test_the_last_rate_of_each_download_is_remembered_for_a_day() -> None:
    rates = Rates()
    assert rates.of_node("node-1", 0.0) == []
    rates.saw("node-1", "first", 100, 1.0)
    rates.saw("node-1", "second", 200, 2.0)
    rates.saw("node-1", "first", 150, 3.0)
    rates.saw("node-1", "first", 0, 4.0)
    rates.saw("node-2", "third", 1, 4.0)
    assert rates.of_node("node-1", 5.0) == [("first", 150), ("second", 200)]
    assert rates.of_node("node-1", 86_402.5) == [("first", 150)]
    assert rates.of_node("node-1", 90_000.0) == []


def test_models_that_come_and_go_fill_no_memory() -> None:
    rates = Rates()
    for number in range(100):
        rates.saw("node-1", f"model-{number}", 1 + number, float(number))
    seen = rates.of_node("node-1", 100.0)
    assert (len(seen), seen[0]) == (16, ("model-99", 100))
