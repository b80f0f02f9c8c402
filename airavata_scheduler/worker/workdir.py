"""The working directory of a slot: empty for every attempt, made anew only if the last one left something behind."""

from __future__ import annotations

import errno
import os
import time

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TICK_NS = 50_000_000


class Workdir:
    """One directory at ``path``, kept open so that a task cannot put something else in its place."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = -1
        self._inode = self._changed_ns = 0
        self._settled = False
        self._make()

    def _make(self) -> None:
        os.mkdir(self.path, 0o700)
        self.fd = os.open(self.path, _DIRECTORY)
        made = os.fstat(self.fd)
        self._inode, self._changed_ns = made.st_ino, made.st_ctime_ns
        self._settled = False

    def is_fresh(self) -> bool:
        """Whether nothing is in it and it is where it was.

        Whatever happens to a directory changes its time, so most often one look at that suffices; but clocks of file
        systems tick slowly, so it says nothing about the first moments.
        """
        changed_ns = os.fstat(self.fd).st_ctime_ns
        if self._settled and changed_ns == self._changed_ns:
            return True
        try:
            same = os.lstat(self.path).st_ino == self._inode
        except FileNotFoundError:
            return False
        self._changed_ns = changed_ns
        # From now on any change shows, because the clock has ticked since the last one.
        self._settled = time.time_ns() > changed_ns + _TICK_NS
        return same and not os.listdir(self.fd)

    def freshen(self) -> None:
        """Make sure that the next attempt finds an empty directory."""
        if self.fd < 0 or not self.is_fresh():
            self._drop()
            remove_tree(self.path)
            self._make()

    def move_to(self, path: str) -> None:
        """Hand the directory with its contents over to somebody else, and start with a new one."""
        os.rename(self.path, path)
        self._drop()
        self._make()

    def _drop(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


def remove_tree(path: str) -> None:
    """Remove whatever is at ``path``; symbolic links are removed, never followed; nothing there is fine."""
    parent = os.open(os.path.dirname(path) or ".", _DIRECTORY)
    try:
        _remove_entry(parent, os.path.basename(path))
    finally:
        os.close(parent)


def _remove_entry(parent: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
        _remove_directory(parent, name)


def _remove_directory(parent: int, name: str) -> None:
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:  # a task may take away its own rights to a directory
        os.chmod(name, 0o700, dir_fd=parent)
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        _empty(fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)


def _empty(fd: int) -> None:
    names = os.listdir(fd)
    if names and not os.access(".", os.W_OK | os.X_OK, dir_fd=fd):
        os.fchmod(fd, 0o700)
    for name in names:
        _remove_entry(fd, name)
