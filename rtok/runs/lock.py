"""One writer at a time in a folder, also after a crash, and whatever processes the writer started."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from contextlib import suppress
from pathlib import Path

from rtok.errors import UserError
from rtok.files import LOCK_FILE

# The errors of file systems without locks, such as some network mounts.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class FolderLock:
    """The lock on a folder: a file in it that the system locks for this process.

    The system releases the lock when the process ends, however it ends. A file that is left behind locks nobody out: it
    marks a folder that a run had started to write into. (Locking the folder itself would need no file, but network file
    systems only lock what is open for writing.)
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_FILE
        self._descriptor: int | None = None
        # Forked children (the data loader's workers) share the lock. They outlive a killed run by seconds, in which its
        # folder would stay locked against --resume.
        os.register_at_fork(after_in_child=self._forget)

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            UserError: another process has it.
        """
        while self._descriptor is None:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise UserError(
                    f"another run is writing into {self.path.parent}: wait for it or name another folder with --out."
                ) from None
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    os.close(descriptor)
                    raise
                logging.getLogger("rtok").warning(
                    "%s cannot be locked (%s): do not start a second run in it", self.path.parent, error.strerror
                )
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), self.path.stat()):
                    self._descriptor = descriptor
                    return
            os.close(descriptor)  # its last owner removed it between our opening and locking it

    def release(self) -> None:
        """Release the lock, if it was taken, and remove its file."""
        if self._descriptor is not None:
            with suppress(OSError):
                self.path.unlink()
            self._forget()

    def _forget(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
