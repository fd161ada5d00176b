"""Reads the file with the drivers of vendors when the process starts. What it may say is vendor_drivers.py's."""

import os
from pathlib import Path

from libs.chassis.settings import SettingsError
from services.fetcher.sources.vendor.drivers import Driver, ExecDriver, parse_drivers


def read_drivers(path: Path | None) -> dict[str, Driver]:
    """The driver of each vendor; none without a file. Raises SettingsError with every mistake."""
    if path is None:
        return {}
    try:
        drivers = parse_drivers(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise SettingsError([f"OME_VENDOR_DRIVERS_FILE={str(path)!r} cannot be read: {why}"]) from None
    except SettingsError as error:
        raise SettingsError([f"{path}: {problem}" for problem in error.problems]) from None
    missing = [
        f"{path}: {vendor}.command begins with {driver.command[0]!r}, which is no program that can be run"
        for vendor, driver in drivers.items()
        if isinstance(driver, ExecDriver) and not _is_program(driver.command[0])
    ]
    if missing:
        raise SettingsError(missing)
    return drivers


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)
