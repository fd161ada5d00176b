"""What people ask of the nodes that hold a model, as annotations of the model say it.

Owns the words of these annotations and how they are read, for whoever writes them and for the controller, which passes
each node its part. Total: what cannot be read asks for nothing. Must not do I/O.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from libs.artifact.wording import one_line

# Asks nodes once to read their copies and compare them with their checksums; another value asks again.
VERIFY_ANNOTATION = "models.ome.io/verify-requested-at"
# The one node that is meant by it; all that hold the model without it.
VERIFY_NODE_ANNOTATION = "models.ome.io/verify-node"
# Nodes, separated by commas, that are to give their copies up as long as no Pod uses them there.
EVICTED_NODES_ANNOTATION = "models.ome.io/evicted-nodes"
# NODE=WORD, separated by commas: another word brings the files back on that node.
PULLED_NODES_ANNOTATION = "models.ome.io/pulled-nodes"
# What names a request goes to each node of a model; a longer text is told by its hash.
_WORD_BYTES = 64
# A fleet is not named node by node; an annotation has room for more names than anybody writes.
_MOST_NODES = 1000


@dataclass(frozen=True)
class NodeRequests:
    """What is asked of a model's nodes one by one."""

    verify: str = ""
    verify_node: str = ""
    evicted: frozenset[str] = frozenset()
    # What names the last time that somebody asked for the files on a node.
    pulled: Mapping[str, str] = field(default_factory=dict)

    def verify_on(self, node: str) -> str:
        """What names the request that a node reads its copy; empty if it need not."""
        return self.verify if self.verify_node in ("", node) else ""

    def demand_on(self, node: str, demand: str) -> str:
        """What names the last time that the files were asked for on a node; demand names it for all of them."""
        return short_word(f"{demand}+{self.pulled[node]}") if node in self.pulled else demand


def read_requests(annotations: Mapping[str, str]) -> NodeRequests:
    """What the annotations of a model ask for."""
    pairs = [each.partition("=") for each in _named(annotations, PULLED_NODES_ANNOTATION)]
    return NodeRequests(
        # Nodes say it back, of which nothing but one printable line is taken.
        verify=short_word(one_line(annotations.get(VERIFY_ANNOTATION, "").strip())),
        verify_node=annotations.get(VERIFY_NODE_ANNOTATION, "").strip(),
        evicted=frozenset(_named(annotations, EVICTED_NODES_ANNOTATION)),
        pulled={node.strip(): word.strip() for node, _, word in pairs},
    )


def short_word(text: str) -> str:
    """A text that names something, in at most 64 bytes."""
    encoded = text.encode()
    return text if len(encoded) <= _WORD_BYTES else hashlib.sha256(encoded).hexdigest()


def _named(annotations: Mapping[str, str], name: str) -> list[str]:
    words = [each.strip() for each in annotations.get(name, "").split(",", _MOST_NODES)[:_MOST_NODES]]
    return [word for word in words if word]
