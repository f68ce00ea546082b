"""The version, and the name that package indexes have for rtok."""

__version__ = "0.2.0"
# The name `rtok` on PyPI belongs to another package.
DISTRIBUTION = "robustness-tokens"


def install(extra: str) -> str:
    """Return the command that installs what `extra` (`seg`, `convert`, `demo`, ...) needs."""
    return f'pip install "{DISTRIBUTION}[{extra}]"'
