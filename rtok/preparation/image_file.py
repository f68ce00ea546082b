"""Whether an image file is complete, judged by its first and last bytes where possible, without decoding it."""

from __future__ import annotations

import os
from pathlib import Path

from rtok.data.decoding import DecodeError, read_image

# (start, end) of a complete file: JPEG's SOI and EOI markers; PNG's signature and its IEND chunk with checksum.
# (One training image of ImageNet is a PNG in spite of its name.)
_COMPLETE = ((b"\xff\xd8\xff", b"\xff\xd9"), (b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"))
_BYTES = max(len(mark) for marks in _COMPLETE for mark in marks)

EMPTY = "empty"
DAMAGED = "damaged"


def fault(path: Path) -> tuple[str, str] | None:
    """Return what is wrong with an image file, as (`EMPTY` or `DAMAGED`, why); None if nothing is.

    A file with another end may still be fine (some cameras append data to the image), so it is decoded before it is
    called damaged.
    """
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                return EMPTY, "the file has 0 bytes"
            start = file.read(_BYTES)
            file.seek(max(0, size - _BYTES))
            end = file.read(_BYTES)
    except OSError as error:
        return DAMAGED, error.strerror or str(error)
    if any(start.startswith(first) and end.endswith(last) for first, last in _COMPLETE):
        return None
    try:
        read_image(path)
    except DecodeError as error:
        return DAMAGED, error.reason
    return None
