"""A local Hugging Face hub: the real HTTP API over real files, with faults on demand.

In the test's own process, or beside it (`python -m tests.support.hub --ready-file FILE`), with the same client:

    with Hub() as hub:                                     # threads; loopback; ports of the hub, the CDN and Xet
        hub.add_model("org/model", generated=generated_model(64 << 20, shards=4))
        fault = hub.inject(Fault("cut", path="*/model-00002*", after_bytes=1 << 20, count=1))
        ...                                                # HF_ENDPOINT is hub.endpoint
        fault.wait_fired()
        assert hub.sent_bytes("*/model-00001*") == size    # the request log proves what was downloaded

What it speaks: model info, revisions, refs, tree with pagination, auth-check, whoami, resolve with HEAD, GET, ranges,
ETag, If-Match, If-None-Match, If-Range, X-Repo-Commit, X-Linked-Size, X-Linked-Etag; large files are redirected to
signed, expiring links on the CDN port; tokens, gated, private and disabled repositories are refused in the words of the
real hub; its own port sends RateLimit headers. With configure(xet=True) large files lie in Xet storage as well, which
serves hf_xet on a third port. Without: uploads, datasets, spaces.

Commits are immutable; push() makes a new one. Content lies in files and is sent by sendfile(2), never held in memory.
The admin API lies at {endpoint}/-/ and is neither logged nor hit by faults. HubClient is the whole of it.
"""

from tests.support.hub.client import Fault, GeneratedFile, HubClient, InjectedFault, LoggedRequest, generated_model
from tests.support.hub.server import REAL_MODEL, Hub

__all__ = [
    "REAL_MODEL",
    "Fault",
    "GeneratedFile",
    "Hub",
    "HubClient",
    "InjectedFault",
    "LoggedRequest",
    "generated_model",
]
