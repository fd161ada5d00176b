"""What a transfer does with refused credentials."""

import pytest

from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile
from libs.artifact.reasons import Reason
from libs.chassis.errors import Missing, Unavailable
from services.fetcher.sources.renewal import RenewedOrigin
from services.fetcher.transfer.origin import Origin
from tests.support.transfers import UrlOrigin

FILE = ManifestFile("config.json", 2, ChecksumAlgorithm.NONE, "")
OLD, NEW = UrlOrigin("hf://a/b", "http://old"), UrlOrigin("hf://a/b", "http://new")


class Controller:
    """Answers with an origin and a version, with nothing new, or with an error; knows what it was asked."""

    def __init__(self, answer: "tuple[Origin, str] | Exception | None") -> None:
        self.answer = answer
        self.asked: list[str] = []

    def renew(self, version: str) -> tuple[Origin, str] | None:
        self.asked.append(version)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_nobody_is_asked_before_anything_is_refused() -> None:
    controller = Controller((NEW, "2"))
    assert RenewedOrigin(OLD, "1", controller.renew).locate(FILE, again=False).url == "http://old/config.json"
    assert controller.asked == []


def test_new_credentials_are_used_from_then_on_and_what_is_refused_to_several_is_asked_about_once() -> None:
    controller = Controller((NEW, "2"))
    origin = RenewedOrigin(OLD, "1", controller.renew)
    assert [origin.locate(FILE, again).url for again in (True, True, False)] == ["http://new/config.json"] * 3
    assert controller.asked == ["1"]


@pytest.mark.parametrize("answer", [None, Unavailable(Reason.UNAVAILABLE, "no controller answers")])
def test_without_other_credentials_there_are_those_that_were_given(answer: Exception | None) -> None:
    origin = RenewedOrigin(OLD, "1", Controller(answer).renew)
    assert origin.locate(FILE, again=True).url == "http://old/config.json"


def test_a_secret_that_has_gone_ends_the_transfer_with_its_reason() -> None:
    origin = RenewedOrigin(OLD, "1", Controller(Missing(Reason.SECRET_NOT_FOUND, "it is gone")).renew)
    with pytest.raises(Missing, match="it is gone"):
        origin.locate(FILE, again=True)
