"""Which repromark this is."""

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """The installed version; "not installed" where a copy of the source runs without an installation."""
    try:
        return version("repromark")
    except PackageNotFoundError:
        return "not installed"
