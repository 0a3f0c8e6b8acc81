"""The version of this release, as dead letters and the command show it."""

from importlib import metadata


def version() -> str:
    """`1.2.3`, or `0` in a tree that was never installed."""
    try:
        return metadata.version("replyrate")
    except metadata.PackageNotFoundError:
        return "0"
