"""Asks the API server as the user who calls, by `kubectl get --raw`: with every way to log in that kubectl knows.

Owns the processes of kubectl. Must not decide anything about models.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

Object = dict[str, Any]


class Refused(Exception):
    """kubectl could not do what it was asked; the message is its own."""


class NotAdmitted(Exception):
    """The API server would not take an object; the message is its own."""


@dataclass(frozen=True)
class ApiServer:
    """flags are those of kubectl that say which cluster is meant and who asks."""

    flags: tuple[str, ...] = ()

    def get(self, path: str, **query: str) -> Object:
        """One object or list. Raises Refused."""
        return self.get_all([address(path, **query)])[0]

    def get_all(self, addresses: Sequence[str]) -> list[Object]:
        """Several at once, each by a process of its own: starting kubectl takes longer than the answer."""
        running = [self._start(each) for each in addresses]
        # All of them are read to their ends, so that none is left behind.
        answers = [process.communicate() for process in running]
        found = []
        for process, (out, said) in zip(running, answers, strict=True):
            if process.returncode:
                raise Refused(_reason(said))
            found.append(json.loads(out))
        return found

    def watch(self, path: str, **query: str) -> Iterator[Object]:
        """The events of a watch, until the API server ends it."""
        with self._start(address(path, watch="true", **query)) as process:
            try:
                assert process.stdout
                for line in process.stdout:
                    yield json.loads(line)
            finally:
                process.terminate()

    def patch(self, resource: str, name: str, namespace: str, patch: Object) -> Object:
        """Merge a patch into an object as the user who calls; returns the object as it is then. Raises Refused."""
        where = [f"--namespace={namespace}"] if namespace else []
        change = ["--type=merge", f"--patch={json.dumps(patch)}", "--output=json"]
        ended = self._run(["patch", resource, name, *where, *change])
        if ended.returncode:
            raise Refused(_reason(ended.stderr))
        return dict(json.loads(ended.stdout))

    def namespace(self) -> str:
        """The namespace of the user's context."""
        command = [_kubectl(), *self.flags, "config", "view", "--minify", "--output=jsonpath={..namespace}"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        return found.stdout.strip() or "default"

    def dry_run(self, file: str, namespace: str) -> list[Object]:
        """What the API server would make of a file, were it applied: one object or several.

        Raises Refused, or NotAdmitted where the objects are at fault.
        """
        scope = [f"--namespace={namespace}"] if namespace else []
        command = ["apply", "--dry-run=server", f"--filename={file}", "--output=json", *scope]
        ended = self._run(command)
        if ended.returncode:
            said = "\n".join(ended.stderr.strip().splitlines())
            if " is invalid" in said or "denied request" in said or "BadRequest" in said:
                raise NotAdmitted(said)
            raise Refused(_reason(ended.stderr))
        found = json.loads(ended.stdout)
        return list(found["items"]) if found["kind"] == "List" else [found]

    def token(self, account: str, namespace: str, audience: str) -> str:
        """A token of a ServiceAccount, for ten minutes. Raises Refused."""
        ended = self._run(
            ["create", "token", account, f"--namespace={namespace}", f"--audience={audience}", "--duration=10m"]
        )
        if ended.returncode:
            raise Refused(_reason(ended.stderr))
        return ended.stdout.strip()

    def _run(self, arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        command = [_kubectl(), *self.flags, *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise _cannot_start(command, error) from error

    def show(self, arguments: Sequence[str]) -> int:
        """Have kubectl itself print something; returns its exit code."""
        return subprocess.run([_kubectl(), *self.flags, *arguments], check=False).returncode

    def _start(self, where: str) -> "subprocess.Popen[str]":
        command = [_kubectl(), *self.flags, "get", "--raw", where]
        try:
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        except OSError as error:
            raise _cannot_start(command, error) from error


def address(path: str, **query: str) -> str:
    """A path with its query, as `kubectl get --raw` takes it."""
    return f"{path}?{urlencode(query)}" if query else path


def _kubectl() -> str:
    # kubectl does not say by which file it was started; KUBECTL is for those who have it under another name.
    return os.environ.get("KUBECTL", "kubectl")


def _cannot_start(command: Sequence[str], error: OSError) -> Refused:
    return Refused(f"{command[0]} cannot be started: {error.strerror}")


def _reason(said: str) -> str:
    lines = said.strip().splitlines() or ["kubectl failed and did not say why"]
    return lines[-1].removeprefix("Error from server ").removeprefix("error: ")
