"""Where the master keys are, and whether they are still those that secrets were sealed with.

The key file is looked for as the systemd credential `carrel-master-key`, then by that name in the secrets directory,
then as `master.key` in the state directory, where a trial makes it when the first secret is kept. It is looked at
whenever it is needed, so that a new version counts without a restart.

`master.marks` in the state directory says, of each version that sealed anything, by which mark it is known. With it
another key is told from a damaged secret, seals nothing, and no new key is made in place of one that went missing.
"""

import json
import os
import secrets
import threading
from pathlib import Path
from typing import Final

from carrel.secrets import MASTER_KEY
from carrel.vault.keys import MasterKeys, MasterKeyUnusable, make, read

OWN: Final = "master.key"
MARKS: Final = "master.marks"

_Signature = tuple[tuple[int, int, int, int], ...]


class KeyRing:
    """The keys of one gateway. All of it blocks; threads may use it at a time.

    ``makes``: whether a key is made where there is none. Keys that were good once open secrets until the gateway ends,
    whatever becomes of their file meanwhile; nothing is sealed with them then. ``gateway`` is its uid, where
    another asks.
    """

    def __init__(
        self, *, credentials_dir: Path | None, secrets_dir: Path | None, state_dir: Path, makes: bool,
        gateway: int | None = None,
    ) -> None:  # fmt: skip
        self._given = [place / MASTER_KEY for place in (credentials_dir, secrets_dir) if place is not None]
        self._own = state_dir / OWN
        self._marks = state_dir / MARKS
        self._makes = makes
        self._gateway = gateway
        self._lock = threading.Lock()
        self._seen: _Signature = ()
        self._keys: MasterKeys | None = None
        self._good: MasterKeys | None = None

    def current(self, *, to_seal: bool = False) -> MasterKeys:
        """The keys as they are now; raises MasterKeyUnusable. ``to_seal``: the newest is marked as used."""
        with self._lock:
            try:
                keys = self._read() or self._missing(to_seal=to_seal)
            except MasterKeyUnusable:
                if to_seal or self._good is None:
                    raise
                return self._good
            if to_seal:
                self._mark(keys)
            self._good = keys
            return keys

    def source(self) -> str | None:
        """The file that they are in, None where there is none yet; raises MasterKeyUnusable."""
        with self._lock:
            keys = self._read()
            if keys is None and self._known():
                raise self._gone()
            return keys.source if keys is not None else None

    def _read(self) -> MasterKeys | None:
        signature = self._signature()
        if self._keys is None or signature != self._seen:
            self._keys = None
            found: MasterKeys | None = None
            for path in (*self._given, self._own):
                found = read(path, ours=path is self._own, gateway=self._gateway)
                if found is not None:
                    break
            if found is not None:
                self._compare(found)
            self._keys, self._seen = found, signature
        return self._keys

    def _signature(self) -> _Signature:
        """What changes when one of the files does."""
        signature = []
        for path in (*self._given, self._own, self._marks):
            try:
                found = path.stat()
            except OSError:
                signature.append((0, 0, 0, 0))
            else:
                signature.append((found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size))
        return tuple(signature)

    def _missing(self, *, to_seal: bool) -> MasterKeys:
        if self._known():
            raise self._gone()
        if not to_seal or not self._makes:
            raise MasterKeyUnusable(
                f"There is no master key to seal secrets with: {self._places()}. `openssl rand -base64 32` makes one."
            )
        make(self._own)
        keys = self._read()
        if keys is None:
            raise MasterKeyUnusable(f"{self._own} was made, and is gone again.")
        return keys

    def _gone(self) -> MasterKeyUnusable:
        return MasterKeyUnusable(f"The master key that secrets are sealed with is gone: {self._places()}.")

    def _places(self) -> str:
        return (
            f"put it where systemd's LoadCredential gives it as {MASTER_KEY!r}, into a file of that name in "
            f"--secrets-dir, or into {self._own} (mode 0600)"
        )

    def _compare(self, keys: MasterKeys) -> None:
        known, marks = self._known(), keys.marks
        for version in sorted(known.keys() & marks.keys()):
            if known[version] != marks[version]:
                raise MasterKeyUnusable(
                    f"{keys.source} is another key than the one that secrets are sealed with: its version {version} "
                    f"has the mark {marks[version]}, and what sealed them has {known[version]}. Put that one back, or "
                    "give the new one a version of its own beside it."
                )

    def _known(self) -> dict[int, str]:
        try:
            document = json.loads(self._marks.read_bytes())
            return {int(version): str(mark) for version, mark in document.items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise MasterKeyUnusable(f"{self._marks} cannot be read: {error.strerror}.") from error
        except (ValueError, AttributeError) as error:
            raise MasterKeyUnusable(
                f"{self._marks} is damaged: with the right master key in place, remove it, and it is made anew."
            ) from error

    def _mark(self, keys: MasterKeys) -> None:
        """Write down the newest version's mark before it seals anything."""
        known, newest = self._known(), keys.newest
        if newest in known:
            return
        document = {str(version): mark for version, mark in {**known, newest: keys.marks[newest]}.items()}
        temporary = self._marks.with_name(f".{MARKS}.{secrets.token_hex(8)}")
        try:
            try:
                fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(fd, "wb") as file:
                    file.write(json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self._marks)
            finally:
                temporary.unlink(missing_ok=True)
            directory = os.open(self._marks.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise MasterKeyUnusable(f"{self._marks} cannot be written: {error.strerror}.") from error
