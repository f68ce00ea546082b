"""The docs site beside GitHub: pages that lie outside of docs/, links to them, and the reference of the Python API.

MkDocs calls these functions; see mkdocs.yml.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

import rtok

ROOT = Path(__file__).resolve().parents[1]
# Pages of the repository's root, by their name on the site.
OUTSIDE = {"index.md": "README.md"} | {name: name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")}
_LINK = re.compile(r"(!?)\[([^]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"^( *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
_REFERENCE = """\
# Python reference

Every name that `rtok` exports, from its docstring. [Examples](python-api.md) are on a page of their own.
"""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/."""
    for name, source in OUTSIDE.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, "api.md", content=reference()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let the links of a page lead to the site's pages; what is only in the repository is named without a link."""
    here = (ROOT / OUTSIDE[page.file.src_uri]).parent if page.file.src_uri in OUTSIDE else ROOT / "docs"
    parts = _CODE.split(markdown)
    parts[::2] = [_LINK.sub(lambda found: _link(found, here), part) for part in parts[::2]]
    return "".join(parts)


def reference() -> str:
    """A heading for every module, and below it what it exports."""
    parts = [_REFERENCE]
    for module in sorted(set(rtok._HOME.values())):
        parts.append(f"## `{module}`\n")
        parts += [f"::: {module}.{name}\n" for name, home in sorted(rtok._HOME.items()) if home == module]
    return "\n".join(parts)


def _link(found: re.Match[str], here: Path) -> str:
    image, text, target, anchor = found.groups()
    file = Path(os.path.normpath(here / target))
    if not file.exists():
        raise PluginError(f"a link leads nowhere: {target}")
    pages = {ROOT / source: name for name, source in OUTSIDE.items()}
    if file in pages:
        name = pages[file]
    elif file.is_relative_to(ROOT / "docs"):
        name = str(PurePosixPath(file.relative_to(ROOT / "docs")))
    else:
        return text
    return f"{image}[{text}]({name}{anchor or ''})"
