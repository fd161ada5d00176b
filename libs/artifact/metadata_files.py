"""Which bytes of a model directory its facts need: metadata whole, headers of weights, names and sizes of the rest.

The limits are the parser's; whoever reads a directory for it stays within them by what stands here. Pure.
"""

from libs.artifact.archive_ends import ARCHIVE_MAGIC
from libs.artifact.completeness import is_index, is_like_text, is_tokenizer, is_weights

# Larger directories are refused.
MAX_FILES = 50_000
MAX_TOTAL_BYTES = 80 << 20
# The longest real configurations reach 3 MB.
MAX_DOCUMENT_BYTES = 6 << 20
# An index names every tensor: 280,000 of them, in 26 MB, in the largest quantized mixtures of experts.
MAX_INDEX_BYTES = 40 << 20
# https://github.com/huggingface/safetensors#format: eight bytes of little-endian length, then a JSON header.
LENGTH_BYTES = 8
# The reference accepts 100 MB; real headers stay under 10 MB, and a bound on memory and time is a promise of ours.
MAX_HEADER_BYTES = 16 << 20
# What the header of a GGUF file says comes before its vocabulary.
MAX_GGUF_BYTES = 12 << 20
# A repository of many quantizations has as many headers, all alike but for their types.
MAX_GGUFS_BYTES = 36 << 20
# The front matter of a model card stands at its beginning.
MAX_CARD_BYTES = 1 << 20
# Of what begins like a pointer or a web page where weights or a vocabulary should be: enough to tell which.
BEGINNING_BYTES = 512
_PAGE_BYTES = 1 << 20

INDEX_SUFFIX = ".safetensors.index.json"
WEIGHTS_SUFFIX = ".safetensors"
GGUF_SUFFIX = ".gguf"
CARD = "README.md"
DOCUMENTS = frozenset(
    {
        "adapter_config.json",
        "config.json",
        "config_sentence_transformers.json",
        "genai_config.json",
        "hf_quant_config.json",
        "mlc-chat-config.json",
        "model_index.json",
        "modules.json",
        "params.json",
        "quant_config.json",
        "quantize_config.json",
        "sentence_bert_config.json",
    }
)


def wanted_bytes(path: str, schema_path: str) -> int:
    """How many of its first bytes are read of a file at most; zero when its name and size are enough."""
    name = path.rpartition("/")[2]
    if path == schema_path or name in DOCUMENTS:
        return MAX_DOCUMENT_BYTES
    if is_index(name):
        return MAX_INDEX_BYTES
    if name.endswith(GGUF_SUFFIX):
        return MAX_GGUF_BYTES
    if name.endswith(WEIGHTS_SUFFIX):
        return LENGTH_BYTES + MAX_HEADER_BYTES
    if path == CARD:
        return MAX_CARD_BYTES
    return BEGINNING_BYTES if is_weights(name) or is_tokenizer(name) else 0


def is_read_in_part(path: str) -> bool:
    """Whether the beginning of a file is enough: what is longer is cut and not refused."""
    return path == CARD or path.endswith(GGUF_SUFFIX) or wanted_bytes(path, "") == BEGINNING_BYTES


def is_archive(path: str, beginning: bytes) -> bool:
    """Whether a file of weights is a ZIP archive: its first LENGTH_BYTES are sent, and then what tells of its end."""
    return wanted_bytes(path, "") == BEGINNING_BYTES and is_weights(path) and beginning.startswith(ARCHIVE_MAGIC)


def sent_bytes(path: str, schema_path: str, size_bytes: int, beginning: bytes) -> int:
    """How many of its first bytes are sent of a file of size_bytes in all; beginning holds its first LENGTH_BYTES.

    One byte above the limit, so that a file that exceeds it is refused rather than cut. Never weights: a header whose
    length cannot be true is left to the parser to complain about, without the bytes behind it.
    """
    limit = wanted_bytes(path, schema_path)
    if limit == BEGINNING_BYTES and not (size_bytes <= _PAGE_BYTES and is_like_text(beginning)):
        return 0
    if not limit or (is_read_in_part(path) and path != schema_path):
        return min(size_bytes, limit)
    if path != schema_path and path.endswith(WEIGHTS_SUFFIX):
        header = int.from_bytes(beginning[:LENGTH_BYTES], "little")
        fits = header <= min(size_bytes - LENGTH_BYTES, MAX_HEADER_BYTES)
        return LENGTH_BYTES + header if fits else min(size_bytes, LENGTH_BYTES)
    return min(size_bytes, limit + 1)
