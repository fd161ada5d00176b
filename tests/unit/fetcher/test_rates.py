"""How fast a node has downloaded lately, by kind of source."""

from services.fetcher.model.rates import Rates


def test_the_last_rate_from_each_kind_of_source_is_told_for_a_day() -> None:
    rates = Rates()
    assert list(rates.told(0.0)) == []
    rates.saw("s3", 100.0, 1.0)
    rates.saw("hf", 200.9, 2.0)
    rates.saw("s3", 150.0, 3.0)
    rates.saw("s3", 0.5, 4.0)
    assert list(rates.told(5.0)) == [("hf", 200, 3), ("s3", 150, 2)]
    assert list(rates.told(86_402.5)) == [("s3", 150, 86_399)]
    assert list(rates.told(90_000.0)) == []
