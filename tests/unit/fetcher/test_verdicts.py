"""What answers of an origin mean, and when a transfer gives up."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from libs.artifact.reasons import Reason
from libs.chassis.errors import Corrupt, Missing, ServiceError, Unavailable
from services.fetcher.transfer.limits import Limits
from services.fetcher.transfer.origin import Location
from services.fetcher.transfer.ranges import ContentRange
from services.fetcher.transfer.refusals import Said
from services.fetcher.transfer.verdicts import (
    CHANGED,
    MISMATCH,
    SHORTER,
    Asked,
    Body,
    Follow,
    GiveUp,
    ReadWhole,
    Renew,
    Restart,
    Retry,
    Verdict,
    judge,
    judge_range,
    next_attempt,
    next_start,
)

NOW = datetime(2026, 11, 27, 12, 0, 0, tzinfo=UTC)
LIMITS = Limits(redirects=3, attempts=4, corrupt_attempts=2, longest_wait_seconds=60, backoff_initial_seconds=1)
SIGNED = Location("https://hub.example/model/weights?signature=1", {"Authorization": "Bearer secret"})
RANGE = Asked("hf://o/m", "weights", SIGNED, size=100)
READ_WHOLE = replace(RANGE, whole=True)
SMALL = replace(RANGE, file="config.json", large=False)
REDIRECTED = replace(RANGE, redirected=True)
REFUSED = replace(RANGE, refusals=1)
CIRCLING = replace(RANGE, redirects=3)


def moved(url: str) -> Mapping[str, str]:
    return {"location": url}


ANSWERS: dict[str, tuple[Asked, int, Mapping[str, str], Verdict]] = {
    "a range that was asked for is taken": (RANGE, 206, {}, Body.RANGE),
    "the whole of a large file is taken": (RANGE, 200, {}, Body.WHOLE),
    "a range is taken that comes with the status of a whole file": (
        RANGE,
        200,
        {"content-range": "bytes 0-99/1000"},
        Body.RANGE,
    ),
    "a whole file that says which bytes it has is taken": (RANGE, 200, {"content-range": "bytes 0-9/10"}, Body.WHOLE),
    "a part of a file that is read in one go is none of its answers": (
        READ_WHOLE,
        200,
        {"content-range": "bytes 0-99/1000"},
        Body.WHOLE,
    ),
    "the whole of a large file that is read in one go is taken": (READ_WHOLE, 200, {}, Body.WHOLE),
    "a small file is taken": (SMALL, 200, {}, Body.SMALL),
    "a redirect to another host goes there without the token": (
        RANGE,
        302,
        moved("https://cdn.example/blob"),
        Follow(Location("https://cdn.example/blob", {})),
    ),
    "a redirect to another port goes there without the token": (
        RANGE,
        307,
        moved("https://hub.example:8443/blob"),
        Follow(Location("https://hub.example:8443/blob", {})),
    ),
    "a redirect within the host keeps the token": (
        RANGE,
        301,
        moved("../blob"),
        Follow(Location("https://hub.example/blob", SIGNED.headers)),
    ),
    "a redirect that says no place is tried again": (RANGE, 302, {}, Retry("a redirect does not say where to")),
    "a redirect to no address is tried again": (
        RANGE,
        302,
        moved("http://[::1/x"),
        Retry("a redirect leads to an address that cannot be understood"),
    ),
    "a rate limit without a pause is tried again": (
        RANGE,
        429,
        {},
        Retry("the answer is HTTP 429", Reason.RATE_LIMITED, None),
    ),
    "a rate limit with a pause is tried again after it": (
        RANGE,
        429,
        {"retry-after": "7"},
        Retry("the answer is HTTP 429", Reason.RATE_LIMITED, 7.0),
    ),
    "a pause until a time is counted by the origin's clock": (
        RANGE,
        503,
        {"retry-after": "Fri, 27 Nov 2026 10:00:09 GMT", "date": "Fri, 27 Nov 2026 10:00:00 GMT"},
        Retry("the answer is HTTP 503", Reason.UNAVAILABLE, 9.0),
    ),
    "a gateway that fails is tried again": (RANGE, 502, {}, Retry("the answer is HTTP 502")),
    "a range behind the end of the file starts it again": (RANGE, 416, {}, SHORTER),
    "a first refusal of the origin has the credentials renewed": (RANGE, 401, {}, Renew(again=True)),
    "a first refusal of a signed address has it signed anew": (REDIRECTED, 403, {}, Renew(again=False)),
    "a range of a body that a proxy has compressed is not believed": (
        RANGE,
        206,
        {"content-encoding": "gzip"},
        ReadWhole("a range came with Content-Encoding gzip"),
    ),
    "a whole file that a proxy has compressed is taken": (RANGE, 200, {"content-encoding": "gzip"}, Body.WHOLE),
    "a small file that a proxy has compressed is taken": (SMALL, 200, {"content-encoding": "deflate"}, Body.SMALL),
    "an object that was stored compressed is taken as it is": (
        SMALL,
        200,
        {"content-encoding": "br", "content-length": "100"},
        Body.SMALL,
    ),
    "a coding that some stores keep by mistake is none": (RANGE, 206, {"content-encoding": "aws-chunked"}, Body.RANGE),
    "a second refusal of a signed address too": (replace(REDIRECTED, refusals=1), 403, {}, Renew(again=False)),
    "a refusal with 400 may be a token that has expired": (RANGE, 400, {}, Renew(again=True)),
}


@pytest.mark.parametrize(("asked", "status", "headers", "verdict"), ANSWERS.values(), ids=ANSWERS.keys())
def test_what_an_answer_means(asked: Asked, status: int, headers: Mapping[str, str], verdict: Verdict) -> None:
    assert judge(asked, status, headers, Said(), NOW, LIMITS) == verdict


ENDS: dict[str, tuple[Asked, int, Mapping[str, str], type[ServiceError], str, str]] = {
    "a second refusal with 401 ends": (REFUSED, 401, {}, Missing, "Forbidden", "may not be read"),
    "a second refusal with 403 ends": (REFUSED, 403, {}, Missing, "Forbidden", "may not be read"),
    "a second 404 ends": (REFUSED, 404, {}, Missing, "NotFound", "does not exist"),
    "a second 410 ends": (REFUSED, 410, {}, Missing, "NotFound", "does not exist"),
    "a second 400 ends": (REFUSED, 400, {}, Unavailable, "Unavailable", "does not understand"),
    "a third refusal of a signed address ends": (
        replace(REDIRECTED, refusals=2),
        403,
        {},
        Missing,
        "Forbidden",
        "may not be read",
    ),
    "a small file in a coding that cannot be undone ends": (
        SMALL,
        200,
        {"content-encoding": "br"},
        Unavailable,
        "Unavailable",
        "Content-Encoding br",
    ),
    "a range in a coding that cannot be undone ends": (
        RANGE,
        206,
        {"content-encoding": "gzip, br"},
        Unavailable,
        "Unavailable",
        "Content-Encoding gzip, br",
    ),
    "a condition that fails ends": (RANGE, 412, {}, Corrupt, "SourceChanged", "has changed"),
    "redirects in circles end": (CIRCLING, 302, moved("/x"), Unavailable, "Unavailable", "in circles"),
    "a redirect from https to http ends": (
        RANGE,
        302,
        moved("http://hub.example/x"),
        Unavailable,
        "Unavailable",
        "from https to http",
    ),
    "a status that nobody knows ends": (RANGE, 418, {}, Unavailable, "Unavailable", "HTTP 418"),
    "a range of a small file, which nobody asked for, ends": (SMALL, 206, {}, Unavailable, "Unavailable", "HTTP 206"),
    "a range of a file that is read in one go ends": (READ_WHOLE, 206, {}, Unavailable, "Unavailable", "HTTP 206"),
}


@pytest.mark.parametrize(("asked", "status", "headers", "kind", "reason", "words"), ENDS.values(), ids=ENDS.keys())
def test_which_answers_end_a_transfer(
    asked: Asked, status: int, headers: Mapping[str, str], kind: type[ServiceError], reason: str, words: str
) -> None:
    verdict = judge(asked, status, headers, Said(), NOW, LIMITS)
    assert isinstance(verdict, GiveUp)
    assert type(verdict.error) is kind
    assert verdict.error.reason == reason
    assert words in verdict.error.message
    assert asked.origin in verdict.error.message
    assert "secret" not in verdict.error.message
    assert "signature" not in verdict.error.message


SAYS = {
    "a hub that answers 403 for a gated repository": (403, "GatedRepo", Missing, "Gated", "accept its terms"),
    "a hub that answers 401 for what does not exist": (401, "RepoNotFound", Missing, "NotFound", "repository is gone"),
    "a file that is missing in its repository": (404, "EntryNotFound", Missing, "NotFound", "does not exist"),
    "an object in an archive of Amazon's": (403, "InvalidObjectState", Missing, "Forbidden", "restore it"),
    "a blob in an archive of Azure's": (409, "BlobArchived", Missing, "Forbidden", "restore it"),
    "an object in an archive of Oracle's": (409, "NotRestored", Missing, "Forbidden", "restore it"),
    "a token that has expired": (400, "ExpiredToken", Missing, "Forbidden", "renew"),
    "a clock that is wrong": (403, "RequestTimeTooSkewed", Missing, "Forbidden", "clock"),
    "a code that nobody knows": (403, "SomethingElse", Missing, "Forbidden", "may not be read"),
    "a code that nobody knows beside 400": (400, "Odd", Unavailable, "Unavailable", "HTTP 400"),
}


@pytest.mark.parametrize(("status", "code", "kind", "reason", "words"), SAYS.values(), ids=SAYS.keys())
def test_what_a_store_says_itself_decides_and_is_told(
    status: int, code: str, kind: type[ServiceError], reason: str, words: str
) -> None:
    verdict = judge(REFUSED, status, {}, Said(code, "It says so."), NOW, LIMITS)
    assert isinstance(verdict, GiveUp)
    assert type(verdict.error) is kind
    assert verdict.error.reason == reason
    assert words in verdict.error.message
    assert f"(HTTP {status}, {code}: It says so)" in verdict.error.message


ADVICE = {
    "a repository that is gone or private": (
        401,
        "RepoNotFound",
        "the owner of the token may not see it",
        "gone or private",
    ),
    "terms that are not accepted": (403, "GatedRepo", "the account that the token belongs to", "name a Secret"),
    "a refusal without a word": (403, "", "check the token or key", "without credentials: name a Secret"),
}


@pytest.mark.parametrize(("status", "code", "with_token", "without"), ADVICE.values(), ids=ADVICE.keys())
def test_advice_about_a_token_is_given_to_who_has_one(status: int, code: str, with_token: str, without: str) -> None:
    anonymous = replace(REFUSED, location=Location("https://hub.example/model/weights"))
    told = []
    for asked in (REFUSED, anonymous):
        verdict = judge(asked, status, {}, Said(code), NOW, LIMITS)
        assert isinstance(verdict, GiveUp)
        told.append(verdict.error.message)
    assert with_token in told[0]
    assert without not in told[0]
    assert without in told[1]
    assert with_token not in told[1]


def test_a_store_that_asks_to_slow_down_by_its_code_alone_is_asked_again_later() -> None:
    for status in (400, 403, 503):
        verdict = judge(RANGE, status, {"retry-after": "3"}, Said("SlowDown"), NOW, LIMITS)
        assert verdict == Retry(f"the answer is HTTP {status}, SlowDown", Reason.RATE_LIMITED, 3.0)


def test_an_address_of_another_scheme_is_not_followed() -> None:
    verdict = judge(RANGE, 302, moved("file:///etc/passwd"), Said(), NOW, LIMITS)
    assert isinstance(verdict, Retry)
    assert "neither http nor https" in verdict.why


def content(value: str) -> Mapping[str, str]:
    return {"content-range": value}


RANGES: dict[str, tuple[Mapping[str, str], int | None, ContentRange | Retry | Restart]] = {
    "exactly what was asked for": (content("bytes 10-19/100"), 10, ContentRange(10, 20, 100)),
    "a body that does not say its length": (content("bytes 10-19/100"), None, ContentRange(10, 20, 100)),
    "an origin that does not say the size of the file": (content("bytes 10-19/*"), 10, ContentRange(10, 20, None)),
    "less than was asked for": (content("bytes 10-14/100"), 5, ContentRange(10, 15, 100)),
    "another size of the file": (content("bytes 10-19/101"), 10, CHANGED),
    "a body of another length than its range": (
        content("bytes 10-19/100"),
        11,
        Retry("an answer of 10 bytes says that it has 11"),
    ),
}
ABOUT_OTHERS = {
    "another start": content("bytes 11-19/100"),
    "more than was asked for": content("bytes 10-20/100"),
    "no Content-Range": {},
    "a Content-Range that contradicts itself": content("bytes 10-19/15"),
}


@pytest.mark.parametrize(("headers", "length", "verdict"), RANGES.values(), ids=RANGES.keys())
def test_what_a_range_carries(
    headers: Mapping[str, str], length: int | None, verdict: ContentRange | Retry | Restart
) -> None:
    assert judge_range(10, 20, 100, headers, length) == verdict


@pytest.mark.parametrize("headers", ABOUT_OTHERS.values(), ids=ABOUT_OTHERS.keys())
def test_a_range_about_other_bytes_is_asked_for_again(headers: Mapping[str, str]) -> None:
    verdict = judge_range(10, 20, 100, headers, 10)
    assert verdict == Retry("asked for bytes from 10 to 20, the answer is about others")


BUSY = Retry("the answer is HTTP 503")
ATTEMPTS: dict[str, tuple[Retry, int, float]] = {
    "the first failure waits within the first bound": (BUSY, 1, 0.5),
    "each further one within twice the bound": (BUSY, 3, 2.0),
    "a pause that is asked for comes on top": (replace(BUSY, pause_seconds=7.0), 1, 7.5),
    "a pause of the longest wait is waited for": (replace(BUSY, pause_seconds=60.0), 1, 60.5),
}


@pytest.mark.parametrize(("retry", "attempts", "seconds"), ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_how_long_an_attempt_waits(retry: Retry, attempts: int, seconds: float) -> None:
    assert next_attempt("hf://o/m: weights", retry, attempts, LIMITS, jitter=0.5) == seconds


def test_the_last_attempt_of_a_row_ends_with_the_reason_of_its_failure() -> None:
    verdict = next_attempt("hf://o/m: weights", Retry("HTTP 429", Reason.RATE_LIMITED, 5.0), 4, LIMITS, 0.5)
    assert isinstance(verdict, GiveUp)
    assert isinstance(verdict.error, Unavailable)
    assert (verdict.error.reason, verdict.error.retry_after_seconds) == ("RateLimited", 5.0)
    assert verdict.error.message == "hf://o/m: weights: HTTP 429; given up after 4 attempts in a row"


def test_a_pause_beyond_the_longest_wait_is_handed_to_the_caller_at_the_first_attempt() -> None:
    verdict = next_attempt("hf://o/m: weights", replace(BUSY, pause_seconds=61.0), 1, LIMITS, 0.5)
    assert isinstance(verdict, GiveUp)
    assert isinstance(verdict.error, Unavailable)
    assert verdict.error.retry_after_seconds == 61.0


@pytest.mark.parametrize(("restarts", "ends"), [(1, False), (2, False), (3, True)])
def test_a_file_is_fetched_anew_as_often_as_the_limit_says(restarts: int, ends: bool) -> None:
    verdict = next_start("hf://o/m: weights", MISMATCH, restarts, LIMITS)
    assert (verdict is not None) is ends
    if verdict:
        assert isinstance(verdict.error, Corrupt)
        assert verdict.error.reason == "ChecksumMismatch"
        assert verdict.error.message == "hf://o/m: weights does not match its checksum; fetched 3 times"
