"""A licence is read from whichever of its three places the metadata uses, and has to be on the list."""

from email.message import Message

import pytest

from tools.audit import licences
from tools.images.licences import expression

READ = {
    "an expression": ([("License-Expression", "Apache-2.0 OR BSD-3-Clause")], "Apache-2.0 OR BSD-3-Clause"),
    "the expression before words": ([("License-Expression", "MIT"), ("License", "GPL-3.0")], "MIT"),
    "an identifier in words": ([("License", "Apache-2.0")], "Apache-2.0"),
    "an expression in words": ([("License", "MPL-2.0 AND MIT")], "MPL-2.0 AND MIT"),
    "known words": ([("License", "Apache 2.0")], "Apache-2.0"),
    "a classifier": ([("Classifier", "License :: OSI Approved :: MIT License")], "MIT"),
    "classifiers below other words": (
        [
            ("License", "Dual License"),
            ("Classifier", "License :: OSI Approved :: BSD License"),
            ("Classifier", "License :: OSI Approved :: Apache Software License"),
        ],
        "Apache-2.0 AND BSD-3-Clause",
    ),
    "one classifier that is unknown among others": (
        [
            ("Classifier", "License :: OSI Approved :: MIT License"),
            ("Classifier", "License :: Other/Proprietary License"),
        ],
        "",
    ),
    "the text of a licence": ([("License", "Permission is hereby granted, free of charge")], ""),
    "nothing": ([], ""),
}


def metadata(fields: list[tuple[str, str]]) -> Message:
    message = Message()
    for name, value in fields:
        message[name] = value
    return message


@pytest.mark.parametrize(("fields", "stated"), READ.values(), ids=READ)
def test_the_licence_is_read_from(fields: list[tuple[str, str]], stated: str) -> None:
    assert expression(metadata(fields)) == stated


@pytest.mark.parametrize("stated", ["MIT", "MIT AND BSD-3-Clause", "(MIT OR Apache-2.0) AND PSF-2.0"])
def test_licences_on_the_list_are_no_finding(stated: str) -> None:
    assert licences.check(["example"], lambda name: metadata([("License-Expression", stated)])) == []


@pytest.mark.parametrize("stated", ["GPL-3.0-only", "MIT AND SSPL-1.0", "MIT OR LicenseRef-Ours"])
def test_one_licence_that_is_not_on_the_list_is_a_finding(stated: str) -> None:
    [found] = licences.check(["example"], lambda name: metadata([("License-Expression", stated)]))

    assert found.subject == "example"
    assert stated in found.message


def test_a_distribution_without_a_licence_is_a_finding() -> None:
    [found] = licences.check(["example"], lambda name: metadata([]))

    assert "names no licence" in found.message


def test_what_requirements_require_counts_with_extras_and_without_other_systems() -> None:
    known = {
        "one": metadata([("Requires-Dist", "Two_Words[fast]"), ("Requires-Dist", "other; sys_platform == 'win32'")]),
        "two-words": metadata(
            [("Requires-Dist", "three; extra == 'fast'"), ("Requires-Dist", "four; extra == 'slow'")]
        ),
        # A circle ends.
        "three": metadata([("Requires-Dist", "one")]),
    }

    assert licences.required(["# comment", "", "one"], known.__getitem__) == ["one", "three", "two-words"]
