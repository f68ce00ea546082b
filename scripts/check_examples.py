"""Check the Python examples of a docs page as its reader's own code: `mypy --strict`."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "python-api.md"
BUILD = Path(__file__).parent.parent / "build"


def examples(page: Path) -> list[str]:
    """Return the Python blocks of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="*", type=Path, default=[PAGE], help="pages of docs/")
    for page in parser.parse_args().pages:
        BUILD.mkdir(exist_ok=True)
        module = BUILD / f"examples_of_{page.stem.replace('-', '_')}.py"
        module.write_text("\n".join(examples(page)), encoding="utf-8")
        # what is wrong inside of rtok is not the reader's: `mypy` alone checks that
        options = ["--strict", "--follow-imports=silent", "--cache-dir=.mypy_cache/examples"]
        if code := subprocess.run([sys.executable, "-m", "mypy", *options, str(module)]).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
