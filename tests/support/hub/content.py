"""The bytes of files: stored once under their hash, generated, and measured. Must not know repositories."""

import contextlib
import hashlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.hub.client import GeneratedFile

_BLOCK = 1 << 20
_NOISE_BYTES = 4096
_NOISE_INTERVAL = 64 << 20
# Room for the JSON of one tensor, padded with spaces as the format allows.
_HEADER_BYTES = 512
# The length of a Git LFS pointer depends only on the number of digits of the size:
# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"


@dataclass(frozen=True)
class Content:
    """The bytes of a file, and what they are called."""

    location: str
    size_bytes: int
    sha256: str
    git_sha1: str


class ContentStore:
    """Files under a state directory, and generated ones in a cache that outlives it."""

    def __init__(self, state_dir: Path, cache_dir: Path) -> None:
        self._blobs = state_dir / "blobs"
        self._cache = cache_dir
        for folder in (self._blobs, self._cache):
            folder.mkdir(parents=True, exist_ok=True)

    def add_bytes(self, data: bytes) -> Content:
        """Keep some bytes."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._blobs / digest
        if not path.exists():
            with _replacing(path) as draft:
                draft.write_bytes(data)
        return Content(str(path), len(data), digest, git_blob_sha1(data))

    def add_file(self, source: Path) -> Content:
        """Keep a copy of a file, so that the commit stays as it is when the source changes."""
        size, sha256, git_sha1 = _measure(source)
        path = self._blobs / sha256
        if not path.exists():
            with _replacing(path) as draft:
                shutil.copyfile(source, draft)
        return Content(str(path), size, sha256, git_sha1)

    def refer(self, source: Path) -> Content:
        """Serve a file where it lies. It must not change; its hash is remembered between processes."""
        status = source.stat()
        name = f"{source} {status.st_size} {status.st_mtime_ns}"
        known = self._cache / f"measured-{hashlib.sha256(name.encode()).hexdigest()}.json"
        if not known.exists():
            with _replacing(known) as draft:
                draft.write_text(json.dumps(_measure(source)))
        size, sha256, git_sha1 = json.loads(known.read_text())
        return Content(str(source), size, sha256, git_sha1)

    def generate(self, spec: GeneratedFile) -> Content:
        """Make up a file, once for all hubs that share the cache."""
        header = _safetensors_header(spec) if spec.path.endswith(".safetensors") else b""
        name = json.dumps([spec.size_bytes, spec.seed, spec.sparse, header.decode(errors="replace")])
        path = self._cache / f"generated-{hashlib.sha256(name.encode()).hexdigest()}"
        if not path.exists():
            with _replacing(path) as draft, draft.open("wb") as file:
                file.truncate(spec.size_bytes)
                for offset, data in _noise(spec, len(header)):
                    file.seek(offset)
                    file.write(data)
                file.seek(0)
                file.write(header)
        return self.refer(path)


def git_blob_sha1(data: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def lfs_pointer(content: Content) -> bytes:
    """What Git keeps in place of a file in LFS."""
    return _POINTER.format(sha256=content.sha256, size=content.size_bytes).encode()


def model_companions(generated: list[GeneratedFile]) -> dict[str, bytes]:
    """config.json and, for several shards, the index of generated weights."""
    shards = [file for file in generated if file.path.endswith(".safetensors") and "/" not in file.path]
    if not shards:
        return {}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": len(shards),
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "vocab_size": 32000,
        "max_position_embeddings": 8192,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.48.0",
    }
    companions = {"config.json": json.dumps(config, indent=2).encode()}
    if len(shards) > 1:
        weight_map = {_tensor_name(file): file.path for file in shards}
        total = sum(file.size_bytes - _HEADER_BYTES for file in shards)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        companions["model.safetensors.index.json"] = json.dumps(index, indent=2).encode()
    return companions


def _tensor_name(spec: GeneratedFile) -> str:
    return f"model.layers.{spec.seed % 1000}.mlp.down_proj.weight"


def _safetensors_header(spec: GeneratedFile) -> bytes:
    size = spec.size_bytes - _HEADER_BYTES
    assert size >= 0, f"{spec.path}: a safetensors file takes at least {_HEADER_BYTES} bytes here"
    dtype, count = ("BF16", size // 2) if size % 2 == 0 else ("I8", size)
    tensor = {"dtype": dtype, "shape": [count], "data_offsets": [0, size]}
    text = json.dumps({"__metadata__": {"format": "pt"}, _tensor_name(spec): tensor}).encode()
    return (_HEADER_BYTES - 8).to_bytes(8, "little") + text.ljust(_HEADER_BYTES - 8)


def _noise(spec: GeneratedFile, start: int) -> Iterator[tuple[int, bytes]]:
    source = random.Random(f"{spec.seed} {spec.size_bytes}")
    if spec.sparse:
        for offset in range(start, spec.size_bytes, _NOISE_INTERVAL):
            yield offset, source.randbytes(min(_NOISE_BYTES, spec.size_bytes - offset))
        return
    # Windows at moving places of one buffer: as fast as memcpy, and no two blocks are alike.
    buffer = source.randbytes(2 * _BLOCK)
    for number, offset in enumerate(range(start, spec.size_bytes, _BLOCK)):
        shift = number * 7919 % _BLOCK
        yield offset, buffer[shift : shift + min(_BLOCK, spec.size_bytes - offset)]


def _measure(path: Path) -> tuple[int, str, str]:
    size = path.stat().st_size
    sha256, git_sha1 = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
    with path.open("rb", buffering=0) as file:
        buffer = memoryview(bytearray(_BLOCK))
        while count := file.readinto(buffer):
            sha256.update(buffer[:count])
            # Nobody asks for the Git name of what is certainly in LFS, and it would double the time.
            if size < 64 * _BLOCK:
                git_sha1.update(buffer[:count])
    return size, sha256.hexdigest(), git_sha1.hexdigest()


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A draft beside path that takes its place at the end: another process sees nothing or all of it."""
    handle, name = tempfile.mkstemp(dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
