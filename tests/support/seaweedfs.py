"""A real S3 server for a test: SeaweedFS on free loopback ports, which checks signatures; its log shown on failure."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import obstore
from obstore.store import S3Store

from tests.support.bucket_puts import put_all
from tools.localcluster.addresses import free_port

_START_SECONDS = 60
_PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc",
    "filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc",
)  # fmt: skip
_IDENTITIES = {
    "identities": [
        {
            "name": "owner",
            "credentials": [{"accessKey": "AKOWNER", "secretKey": "owner-secret"}],
            "actions": ["Admin", "Read", "List", "Write"],
        },
        {
            "name": "stranger",
            "credentials": [{"accessKey": "AKSTRANGER", "secretKey": "stranger-secret"}],
            "actions": ["Read:elsewhere", "List:elsewhere"],
        },
        {"name": "anonymous", "actions": ["Read:public", "List:public", "Write:public"]},
    ]
}
OWNER = {"AWS_ACCESS_KEY_ID": b"AKOWNER", "AWS_SECRET_ACCESS_KEY": b"owner-secret"}
STRANGER = {"aws_access_key_id": b"AKSTRANGER", "aws_secret_access_key": b"stranger-secret\n"}


class SeaweedFs:
    """One server with a private bucket "models", and a bucket "public" that everybody may read, list and write."""

    scheme = "s3"
    parameters: Mapping[str, str] = {}
    secret: Mapping[str, bytes] = OWNER
    wrong_secret: Mapping[str, bytes] = OWNER | {"AWS_SECRET_ACCESS_KEY": b"wrong-secret"}

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, int] = {}
        self.endpoint = ""

    def __enter__(self) -> "SeaweedFs":
        configuration = self._folder / "s3.json"
        configuration.write_text(json.dumps(_IDENTITIES))
        self._ports = {name: free_port() for name in _PORTS}
        self.endpoint = f"http://127.0.0.1:{self._ports['s3.port']}"
        command = [str(Path(sys.executable).parent / "weed"), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
        command += [f"-dir={self._folder}", f"-s3.config={configuration}", "-s3.iam=false", "-master.telemetry=false"]
        command += ["-master.volumeSizeLimitMB=64", "-volume.max=20", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += [f"-{name}={port}" for name, port in self._ports.items()]
        with (self._folder / "weed.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            self._await_answers()
            for bucket in ("models", "public"):
                self._request("PUT", obstore.sign(self.store(bucket), "PUT", "", timedelta(minutes=5)))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process:
            # In order it takes 20 seconds, and nobody wants its data again.
            process.kill()
            process.wait()
            for port in self._ports.values():
                for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    socket.unlink()

    def store(self, bucket: str) -> S3Store:
        """The bucket as its owner sees it."""
        return S3Store(
            bucket,
            config={
                "access_key_id": "AKOWNER",
                "secret_access_key": "owner-secret",
                "endpoint": self.endpoint,
                "region": "us-east-1",
            },
            client_options={"allow_http": True},
        )

    def put(self, bucket: str, prefix: str, contents: Mapping[str, bytes]) -> None:
        """Put objects; larger ones in parts, as uploading tools do."""
        store = self.store(bucket)

        def put_raw(key: str, content: bytes) -> None:
            # obstore signs only names of which it makes a path, but whatever is in front of them.
            address = S3Store(
                config={
                    **store.config,
                    "endpoint": f"{self.endpoint}/{bucket}/{quote(key)}?of-a-test=",
                    "virtual_hosted_style_request": True,
                },
                client_options={"allow_http": True},
            )
            self._request("PUT", obstore.sign(address, "PUT", "", timedelta(minutes=5)), content)

        put_all(store, prefix, contents, put_raw)

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        obstore.delete(self.store(bucket), key)

    def put_marker(self, key: str) -> None:
        """Make a folder in the public bucket as web consoles do: an empty object whose name ends with a slash."""
        self._request("PUT", f"{self.endpoint}/public/{key}/")

    def _await_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            assert self._process.poll() is None, f"weed ended:\n{self._log()}"
            try:
                self._request("GET", f"{self.endpoint}/healthz")
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"weed does not answer:\n{self._log()}")

    def _request(self, method: str, url: str, content: bytes | None = None) -> None:
        with urllib.request.urlopen(urllib.request.Request(url, method=method, data=content), timeout=60) as answer:
            answer.read()

    def _log(self) -> str:
        return (self._folder / "weed.log").read_text()[-8000:]
