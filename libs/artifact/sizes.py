"""How many bytes, as a person reads it beside Kubernetes: in binary units, never exact to the byte."""


def shown_size(size_bytes: int) -> str:
    """A size in the largest unit of which there is one, such as "37.5 GiB", "10 TiB" or "135 bytes"."""
    if size_bytes < 1024:
        return "1 byte" if size_bytes == 1 else f"{size_bytes} bytes"
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if round(size, 1) < 1024:
            return f"{round(size, 1):g} {unit}"
        size /= 1024
    return f"{round(size, 1):g} TiB"
