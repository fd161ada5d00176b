"""How much comes through a bandwidth limit and whose turn it is, on a clock that the tests set."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.fetcher.transfer.token_bucket import Portion, TokenBucket

RATE = 1000.0
# What may come at once: an eighth of a second's worth.
BURST = 125


def drain(bucket: TokenBucket, users: list[str], seconds: float) -> Counter[str]:
    """Bytes that came for each mention of a user, each of which wants more as soon as it has been served."""
    now, came = 0.0, Counter[str]()
    waiting: list[tuple[str, Portion]] = [(user, bucket.ask(user, 1 << 20)) for user in users]
    while True:
        while bucket.serve(now):
            for each in [each for each in waiting if each[1].granted]:
                came[each[0]] += each[1].count
                waiting[waiting.index(each)] = (each[0], bucket.ask(each[0], 1 << 20))
        now += bucket.seconds_to_next() + 1e-9
        if now > seconds:
            return came


def test_as_much_comes_through_as_the_rate_says() -> None:
    came = drain(TokenBucket(RATE, 0.0), ["one"], 20.0)
    assert 20 * RATE - BURST <= came["one"] <= 20 * RATE + BURST


def test_users_get_the_same_however_often_each_asks() -> None:
    came = drain(TokenBucket(RATE, 0.0), ["one"] * 8 + ["other"], 20.0)
    assert abs(came["one"] - came["other"]) <= 2 * BURST


def test_what_one_does_not_use_goes_to_the_others() -> None:
    bucket = TokenBucket(RATE, 0.0)
    drain(bucket, ["idle"], 0.0)
    came = drain(bucket, ["busy"], 20.0)
    assert came["busy"] >= 20 * RATE - 2 * BURST


def test_a_user_that_was_idle_has_saved_nothing_up() -> None:
    bucket = TokenBucket(RATE, 0.0)
    came = drain(bucket, ["one"], 10.0)
    came = drain(bucket, ["one", "late"], 0.0)
    assert came["late"] <= BURST


def test_a_withdrawn_portion_costs_nothing() -> None:
    bucket = TokenBucket(RATE, 0.0)
    while bucket.serve(0.0):
        pass
    for _ in range(100):
        bucket.withdraw(bucket.ask("gone", 1000))
    portion = bucket.ask("one", 10)
    assert bucket.serve(0.0) == 1
    assert portion.granted


def test_a_rate_of_a_byte_a_second_still_lets_bytes_through() -> None:
    bucket = TokenBucket(1, 0.0)
    first, second = bucket.ask("one", 4096), bucket.ask("one", 4096)
    assert (bucket.serve(0.0), first.count, bucket.seconds_to_next()) == (1, 1, 1.0)
    assert bucket.serve(1.0) == 1
    assert second.granted


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5000), st.floats(0, 0.5)), max_size=60),
    st.integers(1, 10**6),
)
def test_no_more_than_the_rate_and_one_burst_ever_comes_through(asked: list[tuple[str, int, float]], rate: int) -> None:
    bucket, now, came = TokenBucket(rate, 0.0), 0.0, 0
    portions = []
    for user, wanted, later in asked:
        portions.append(bucket.ask(user, wanted))
        now += later
        bucket.serve(now)
        came = sum(portion.count for portion in portions if portion.granted)
        assert came <= rate * now + max(rate / 8, 1) + 1e-6
    bucket.serve(now + 1e9)
    assert all(0 < portion.count <= wanted for portion, (_, wanted, _) in zip(portions, asked, strict=True))
