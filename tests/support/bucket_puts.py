"""Puts objects into a bucket as uploading tools do, also under names that the library for it refuses."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import obstore
from obstore.store import AzureStore, S3Store


def put_all(
    store: S3Store | AzureStore, prefix: str, contents: Mapping[str, bytes], put_raw: Callable[[str, bytes], None]
) -> None:
    """Put objects below a prefix, larger ones in parts; put_raw has those of whose names obstore makes no path."""

    def put(item: tuple[str, bytes]) -> None:
        key = f"{prefix}/{item[0]}"
        try:
            obstore.put(store, key, item[1])
        except ValueError:
            put_raw(key, item[1])

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(put, contents.items()))
