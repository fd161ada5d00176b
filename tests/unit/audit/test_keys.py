"""Keys are found by their form, wherever they are, and words about keys are not."""

from pathlib import Path

import pytest

from tools.audit import keys

# In two parts each, so that this file holds none.
KEYS = {
    "a private key": "-----BEGIN PRIVATE" + " KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC" * 4,
    "an old private key": "-----BEGIN RSA PRIVATE" + " KEY-----\nProc-Type: 4,ENCRYPTED\n" + "MIIEvQIBADANBgkq" * 4,
    "a seed of NATS": "SA" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567ABCDEFGHIJKLMNOPQRSTUVWX",
    "a token of Hugging Face": "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "a key of AWS": "AKIA" + "ABCDEFGHIJKLMNOP",
    "a token of GitHub": "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789",
    "a key of Google": "AIza" + "abcdefghijklmnopqrstuvwxyz012345678",
    "a signed token": "eyJhbGciOiJSUzI1NiIsI" + ".eyJhbGciOiJSUzI1NiIsI.abcdefghijklmnopqrst",
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_key_is_found_with_its_line_and_is_not_repeated(key: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"one: 1\ntoken: {key}\n")

    [found] = keys.check([path], tmp_path)

    assert str(found).startswith("keys: settings.yaml:2: this looks like ")
    assert key[:12] not in str(found)


@pytest.mark.parametrize(
    "words",
    [
        "PEM starts with -----BEGIN PRIVATE KEY-----",
        "tokens start with hf_, such as hf_example",
        "The key AKIAIOSFODNN7EXAMPLE does not exist",
        "sha256:" + "ab" * 32,
    ],
)
def test_words_about_keys_are_no_keys(words: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(words)

    assert keys.check([path], tmp_path) == []


@pytest.mark.parametrize("name", ["tls.key", "node.creds", "id_ed25519", ".env"])
def test_a_file_that_is_named_as_files_of_keys_are_is_found(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x00\xff")

    assert [each.subject for each in keys.check([tmp_path / name], tmp_path)] == [name]
