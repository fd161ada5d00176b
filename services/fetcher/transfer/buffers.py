"""A bounded number of page-aligned buffers: the memory that a transfer uses, whatever it transfers."""

import contextlib
import mmap


def aligned_buffer(size: int, whole: bool = True) -> memoryview:
    """Memory that begins at a page, as O_DIRECT asks; taken when it is first used, freed with its last view.

    whole says that all of it is going to be used.
    """
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if whole:
        # One page fault instead of 512, a tenth of a transfer's CPU time; a kernel without huge pages refuses.
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


class BufferPool:
    """Hands out equal buffers, each at most once at a time. The caller serialises access."""

    def __init__(self, count: int, size: int) -> None:
        self._free = [aligned_buffer(size) for _ in range(count)]

    def take(self) -> memoryview | None:
        """A buffer, or None when all are in use; the one used last comes first, as its pages are there already."""
        return self._free.pop() if self._free else None

    def give_back(self, buffer: memoryview) -> None:
        """Return a buffer that take has handed out."""
        self._free.append(buffer)

    def clear(self) -> None:
        """Free the buffers that are not in use."""
        self._free.clear()
