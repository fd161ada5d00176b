"""A vendor's driver program, small but whole: lists the files below a directory and says where an origin serves them.

python vendor_driver.py DIRECTORY BASE_URL list|locate. Writes each request, with what it was given of the environment,
as a line to DIRECTORY.requests. The parameter "fail" of a request makes it go wrong in one of the ways below.
"""

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote


def main() -> None:
    directory, base_url, verb = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    request = json.load(sys.stdin)
    with Path(f"{directory}.requests").open("a") as log:
        # What systems and interpreters add by themselves is left out.
        environ = {
            name: value for name, value in os.environ.items() if name not in ("LC_CTYPE", "__CF_USER_TEXT_ENCODING")
        }
        log.write(json.dumps({"verb": verb, "environ": environ, "pid": os.getpid(), **request}) + "\n")
    token = base64.b64decode(request["credentials"].get("token", "")).decode()
    go_wrong(request["parameters"].get("fail", ""), token)
    if request["path"] != directory.name:
        answer({"error": f"there is no {request['path']}"}, os.EX_NOINPUT)
    if verb == "list":
        files = (path for path in directory.rglob("*") if path.is_file())
        answer({"revision": "r1", "files": [described(path, directory) for path in files]})
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"{base_url}/{quote(request['file'])}?again={request['again']}&revision={request['revision']}"
    answer({"url": url, "headers": headers, **({"expiresInSeconds": 0} if "expires" in request["parameters"] else {})})


def described(path: Path, directory: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "path": str(path.relative_to(directory)),
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def go_wrong(how: str, token: str) -> None:
    print("something about", token, file=sys.stderr)
    match how.split(":"):
        case ["status", status]:
            answer({"error": f"as told\nwith {token}", "retryAfterSeconds": 7}, int(status))
        case ["silent", status]:
            sys.exit(int(status))
        case ["text"]:
            print("this is not JSON")
            sys.exit(0)
        case ["shape"]:
            answer({"files": [{"path": "a", "size": "1"}]})
        case ["pages"]:
            answer({"files": [], "next": "?page=2"})
        case ["address"]:
            answer({"url": f"http://user:{token}@[", "files": []})
        case ["endless"]:
            while True:
                sys.stdout.write("x" * (1 << 20))
        case ["hang"]:
            subprocess.Popen(["sleep", "1000"])
            while True:
                time.sleep(1000)
        case ["child"]:
            # It holds standard output open for longer than anybody waits.
            subprocess.Popen(["sleep", "1000"])
            answer({"files": [{"path": "a", "size": 1}]})
        case ["killed"]:
            os.abort()


def answer(document: dict[str, Any], status: int = 0) -> None:
    print(json.dumps(document), flush=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
