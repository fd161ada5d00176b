"""Reads the licence of a Python distribution from its metadata, as an expression of SPDX."""

import re
from email.message import Message

# What distributions say that have no License-Expression yet (PEP 639): their own words, and the classifiers of PyPI.
_WORDS = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2 license": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "universal permissive license 1.0 or apache license 2.0": "UPL-1.0 OR Apache-2.0",
}
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "Universal Permissive License (UPL)": "UPL-1.0",
}
_IDENTIFIER = r"[A-Za-z0-9][A-Za-z0-9.+-]*"
# One word of an expression is taken for an identifier only if it looks like those of SPDX: "Dual License" is none.
_EXPRESSION = re.compile(rf"\(?{_IDENTIFIER}\)?( (AND|OR|WITH) \(?{_IDENTIFIER}\)?)*")


def expression(metadata: Message) -> str:
    """The licence that core metadata names; empty when it names none that we can read.

    Several classifiers are joined by AND: they do not tell whether one may choose.
    """
    if stated := metadata["License-Expression"]:
        return str(stated).strip()
    words = " ".join(str(metadata["License"] or "").split())
    if known := _WORDS.get(words.lower()):
        return known
    if words and _EXPRESSION.fullmatch(words):
        return words
    classifiers = [
        each.rpartition(" :: ")[2] for each in metadata.get_all("Classifier") or () if each.startswith("License :: ")
    ]
    if classifiers and all(each in _CLASSIFIERS for each in classifiers):
        return " AND ".join(sorted({_CLASSIFIERS[each] for each in classifiers}))
    return ""


def identifiers(stated: str) -> list[str]:
    """Every licence and exception that an expression names."""
    return [word for word in re.findall(_IDENTIFIER, stated) if word not in ("AND", "OR", "WITH")]
