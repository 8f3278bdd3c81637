"""The folder of the keys that sign assertions: one file with all of them, which is replaced as a whole.

The folder is its owner's alone (0700), and so is the file (0600).  One that root has mounted for a gate of another user
is taken, too, if nobody else can read it: the file may be readable for a group then.  Who may enter a folder that is
mounted read-only does not matter, as nobody can put another file there: a Secret of Kubernetes has mode 1777.  Who
makes or changes keys holds a lock, so that processes that start at the same time make one set.
"""

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from gatekeeper.core.assertion_keys import Algorithm, KeyRing
from gatekeeper.core.errors import KeysUnusable

NAME = "keys.json"
DEFAULT_FOLDER = "gatekeeper-keys"
"""Where keys are beside the configuration, unless it says otherwise."""

Mark = tuple[int, int, int]

_LOCK = "lock"


class FolderUnwritable(KeysUnusable):
    """There are no keys, and none can be made there."""


class TooSoon(KeysUnusable):
    """Somebody may not know the next key yet; `wait_s` is how long to wait."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"the next key was published a moment ago: wait {wait_s} s, until everybody can know it")
        self.wait_s = wait_s


class KeyFolder:
    """One folder.  Nothing is made before it is asked for."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"<KeyFolder {self.path}>"

    def mark(self) -> Mark | None:
        """What changes whenever the keys do; None where there are none.  Raises KeysUnusable."""
        try:
            found = os.stat(self.path / NAME)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise KeysUnusable(f"{self.path / NAME}: {exc.strerror}") from exc
        return found.st_ino, found.st_mtime_ns, found.st_size

    def read(self) -> KeyRing | None:
        """The keys, or None where there are none.  Raises KeysUnusable, also where others could get at them."""
        file = self.path / NAME
        try:
            if not os.statvfs(self.path).f_flag & os.ST_RDONLY:
                _refuse_shared(self.path, os.stat(self.path), 0o077, 0)
            with open(file, "rb") as opened:
                _refuse_shared(file, os.fstat(opened.fileno()), 0o077, 0o007)
                raw = opened.read()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise KeysUnusable(f"{file}: {exc.strerror}") from exc
        try:
            return KeyRing.decode(raw)
        except KeysUnusable as exc:
            raise KeysUnusable(f"{file}: {exc}") from exc

    def open(self, algorithm: Algorithm, now_ms: int) -> KeyRing:
        """The keys, made now where there are none.  Raises KeysUnusable, FolderUnwritable for one."""
        found = self.read()
        if found is not None:
            return found
        with self._locked():
            found = self.read()  # somebody else may have been faster
            if found is None:
                found = KeyRing.make(algorithm, now_ms)
                self._write(found)
        return found

    def rotate(self, algorithm: Algorithm, now_ms: int, *, force: bool = False) -> KeyRing:
        """The keys after `next` has become the current one; the first ones where there were none.

        Raises KeysUnusable: TooSoon, unless `force` says that requests may be refused, and FolderUnwritable.
        """
        with self._locked():
            found = self.read()
            if found is None:
                ring = KeyRing.make(algorithm, now_ms)
            else:
                left_ms = found.may_rotate_from_ms - now_ms
                if left_ms > 0 and not force:
                    raise TooSoon(-(-left_ms // 1000))
                ring = found.rotated(algorithm, now_ms)
            self._write(ring)
        return ring

    def can_be_made(self) -> bool:
        """Whether keys are there, or the folder can take some, as far as can be told without making any."""
        for place in (self.path, *self.path.parents):
            if place.exists():
                return (self.path / NAME).exists() or os.access(place, os.W_OK | os.X_OK)
        return False

    @contextmanager
    def _locked(self) -> Generator[None]:
        """The block, with nobody else in it.  Raises FolderUnwritable."""
        import fcntl  # where there is none, there is no gate either, but configurations can be checked

        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise FolderUnwritable(f"{self.path}: {exc.strerror}") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, ring: KeyRing) -> None:
        """Put these keys in place of what is there; readers see the old ones or the new ones, also after a crash."""
        new = self.path / f".{NAME}.new"
        try:
            with suppress(FileNotFoundError):
                new.unlink()  # of somebody who did not come to an end
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
                opened.write(ring.encode())
                opened.flush()
                os.fsync(opened.fileno())
            new.replace(self.path / NAME)
            _sync(self.path)
        except OSError as exc:
            raise FolderUnwritable(f"{self.path}: {exc.strerror}") from exc


def _refuse_shared(path: Path, found: os.stat_result, own: int, mounted: int) -> None:
    """Raise KeysUnusable where others could get at it: `own` and `mounted` are the bits that may not be set."""
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid == os.geteuid():
        if mode & own:
            raise KeysUnusable(f"{path}: others can get at it, mode {mode:04o}; set it to {mode & 0o700:04o}")
    elif found.st_uid != 0:
        raise KeysUnusable(f"{path}: it belongs to another user")
    elif mode & mounted:
        raise KeysUnusable(f"{path}: everybody can read it, mode {mode:04o}")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
