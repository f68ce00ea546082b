"""Brings mmsegmentation up on machines without a compiler, and keeps it quiet.

mmsegmentation imports `mmcv.ops`, which needs compiled code. Where mmcv has none (`mmcv-lite`), a stand-in
takes its place: importing works, and an operation that is really called says what is missing. Nothing that
rtok uses calls one.
"""

from __future__ import annotations

import fcntl
import importlib
import logging
import os
import sys
import tempfile
import warnings
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from rtok.errors import UserError
from rtok.version import install

_EXTENSION = "mmcv._ext"
INSTALL = f"eval-seg needs mmsegmentation: {install('seg')}"
HEADLESS = "eval-seg needs OpenCV without a display: pip install --force-reinstall opencv-python-headless"


class NoCompiledOperations(ModuleType):
    """Has every name one may ask for, as a function that refuses."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*arguments: object, **options: object) -> None:
            raise RuntimeError(f"mmcv's compiled operation {name} was called, but this mmcv has none: install mmcv.")

        return missing


@cache
def start() -> None:
    """Import mmsegmentation and register its modules and scope; calling it again does nothing.

    Raises:
        UserError: it is not installed, or a library of the system is missing; one line says what to install.
    """
    if not verbose():
        warnings.filterwarnings("ignore", module=r"(mmcv|mmengine|mmseg)\b")
    try:
        import_yapf()
        provide_operations()
        importlib.import_module("mmseg.utils").register_all_modules(init_default_scope=True)
    except ImportError as error:
        # opencv-python links to libraries of a desktop, which servers may lack
        needs_display = ".so" in str(error)
        raise UserError(f"{HEADLESS if needs_display else INSTALL} ({error})") from None


def import_yapf() -> None:
    """Import mmengine's formatter, one process of this user at a time.

    The first import on a machine writes its grammar into the user's cache, and a second process at the same moment
    would read half of it (`EOFError`).
    """
    if find_spec("yapf") is None:
        return
    lock = Path(tempfile.gettempdir()) / f"rtok-yapf-{os.getuid()}.lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        importlib.import_module("yapf")


def provide_operations() -> None:
    """Put the stand-in where mmcv has no compiled operations; compiled ones are used."""
    importlib.import_module("mmcv")
    if _EXTENSION not in sys.modules and find_spec(_EXTENSION) is None:
        stand_in = NoCompiledOperations(_EXTENSION)
        stand_in.__spec__ = ModuleSpec(_EXTENSION, loader=None)  # mmengine's Runner looks for it
        sys.modules[_EXTENSION] = stand_in


def verbose() -> bool:
    """Whether the user asked for the messages of libraries (`--verbose`)."""
    return logging.getLogger().isEnabledFor(logging.INFO)


def log_level() -> str:
    """Return the level for mmengine's own logger, which does not ask Python's root logger."""
    return "INFO" if verbose() else "ERROR"
