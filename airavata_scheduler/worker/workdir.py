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

    def _is_fresh(self, changed_ns: int) -> bool:
        """Whether nothing is in it and it is where it was; ``changed_ns`` is its time."""
        try:
            same = os.lstat(self.path).st_ino == self._inode
        except FileNotFoundError:
            return False
        self._changed_ns = changed_ns
        # From now on any change shows, because the clock has ticked since the last one.
        self._settled = time.time_ns() > changed_ns + _TICK_NS
        return same and not os.listdir(self.fd)

    def freshen(self) -> None:
        """Make sure that the next attempt finds an empty directory.

        Whatever happens to a directory changes its time, so most often one look at that suffices; but clocks of file
        systems tick slowly, so it says nothing about the first moments.
        """
        changed_ns = os.fstat(self.fd).st_ctime_ns if self.fd >= 0 else 0
        if self._settled and changed_ns == self._changed_ns:
            return
        if self.fd < 0 or not self._is_fresh(changed_ns):
            self._drop()
            try:
                remove_tree(self.path)
            except OSError:  # one that cannot be removed is no reason to take no more tasks
                os.rename(self.path, f"{self.path}.{time.time_ns()}")
            self._make()

    def move_to(self, path: str) -> None:
        """Hand the directory with its contents over to somebody else, and start with a new one."""
        os.rename(self.path, path)
        self._drop()
        try:
            self._make()
        except OSError:  # without room the contents would be nobody's; here the next attempt removes them
            os.rename(path, self.path)
            raise

    def _drop(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1
        self._settled = False


def remove_tree(path: str) -> None:
    """Remove whatever is at ``path``; symbolic links are removed, never followed; nothing there is fine."""
    parent = os.open(os.path.dirname(path) or ".", _DIRECTORY)
    try:
        if not _unlink(parent, os.path.basename(path)):
            _empty(parent, os.path.basename(path))
            os.rmdir(os.path.basename(path), dir_fd=parent)
    finally:
        os.close(parent)


def _unlink(parent: int, name: str) -> bool:
    """Remove what is no directory; False if it is one."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
        return False
    return True


def _empty(parent: int, name: str) -> None:
    """Remove all that is in a directory: however deep it is, with one open directory and without recursion."""
    fd = _enter(parent, name)
    try:
        left = [(_directories(fd), _identity(fd))]
        while len(left) > 1 or left[0][0]:
            names, _ = left[-1]
            if names:
                fd = _moved(fd, _enter(fd, names[-1]))
                left.append((_directories(fd), _identity(fd)))
                continue
            left.pop()
            names, identity = left[-1]
            fd = _moved(fd, os.open("..", _DIRECTORY, dir_fd=fd))
            if _identity(fd) != identity:
                raise OSError(errno.ESTALE, f"{names[-1]} was moved away while it was removed")
            os.rmdir(names.pop(), dir_fd=fd)
    finally:
        os.close(fd)


def _enter(parent: int, name: str) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:  # a task may take away its own rights to a directory
        os.chmod(name, 0o700, dir_fd=parent)
        return os.open(name, _DIRECTORY, dir_fd=parent)


def _moved(old: int, new: int) -> int:
    os.close(old)
    return new


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _directories(fd: int) -> list[str]:
    """The directories in a directory, of which everything else has been removed."""
    names = os.listdir(fd)
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=fd):
        os.fchmod(fd, 0o700)
    return [name for name in names if not _unlink(fd, name)]
