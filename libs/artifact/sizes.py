"""How many bytes, as a person reads it beside Kubernetes: in binary units, never exact to the byte."""

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def shown_size(size_bytes: int) -> str:
    """A size in the largest unit of which there is one, such as "37.5 GiB", "10 TiB" or "135 bytes"."""
    if size_bytes < 1024:
        return "1 byte" if size_bytes == 1 else f"{size_bytes} bytes"
    size, power = size_bytes / 1024, 0
    while round(size, 1) >= 1024 and power < len(_UNITS) - 1:
        size, power = size / 1024, power + 1
    return f"{size:.1f}".removesuffix(".0") + f" {_UNITS[power]}"
