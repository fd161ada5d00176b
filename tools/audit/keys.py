"""Looks for keys, tokens and passwords in the files of the repository.

A key is found by its form, so words about keys, or the first line of one, are no finding.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from tools.audit.finding import Finding

# What each looks like, by the documentation of those who give them out.
FORMS = {
    "a private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY( BLOCK)?-----\s+[A-Za-z0-9+/=\s:,-]{64}",
    "a seed of NATS": rb"\bS[ACNOUX][A-Z2-7]{56}\b",
    "a token of Hugging Face": rb"\bhf_[A-Za-z0-9]{34}\b",
    "a key of AWS": rb"\b(AKIA|ASIA)(?![0-9A-Z]{9}EXAMPLE)[0-9A-Z]{16}\b",
    "a token of GitHub": rb"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})",
    "a key of Google": rb"\bAIza[0-9A-Za-z_-]{35}\b",
    "a token of Slack": rb"\bxox[abprs]-[0-9A-Za-z-]{20,}",
    "a signed token": rb"\beyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
}
# Files that hold nothing but key material, whatever their form.
ENDINGS = (".key", ".p12", ".pfx", ".jks", ".kdbx", ".creds", ".nk", ".netrc", ".htpasswd")
NAMES = ("id_rsa", "id_ecdsa", "id_ed25519", ".env")

_FORMS = {name: re.compile(form) for name, form in FORMS.items()}


def check(paths: Iterable[Path], root: Path) -> list[Finding]:
    """A finding for each form of a key in each file, with the line that it begins on and nothing of the key."""
    found = []
    for path in paths:
        subject = str(path.relative_to(root))
        if path.name in NAMES or path.name.endswith(ENDINGS):
            found.append(Finding("keys", subject, "files of this name hold keys"))
        content = path.read_bytes()
        for what, form in _FORMS.items():
            for match in form.finditer(content):
                line = content.count(b"\n", 0, match.start()) + 1
                found.append(Finding("keys", f"{subject}:{line}", f"this looks like {what}"))
    return found
