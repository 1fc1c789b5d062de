"""Virtual keys: what an agent holds instead of a provider's key.

A key is ``vk_`` and 256 random bits, shown once. Kept is its HMAC-SHA256 under a server-side
pepper: the kept form can neither be used as a key nor be tried against a leaked file alone. A
slow password hash would add nothing against 256 bits but a way to exhaust us.
"""

import hashlib
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

PREFIX = "vk_"
PEPPER_VARIABLE = "BURSAR_KEY_PEPPER"


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualKey:
    """What is known of one key; never the key itself."""

    id: str
    """``vk_`` and 6 hex digits of the digest, for people."""
    digest: str
    name: str = ""
    tenant: str = ""
    team: str = ""
    user: str = ""
    agent: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    """Models it may ask for; empty for all."""
    capture: bool = False
    """Keep prompts and answers of its calls."""
    created_at: int = 0
    """Seconds since the epoch."""
    expires_at: int | None = None
    revoked_at: int | None = None

    def is_valid(self, now_s: float) -> bool:
        """Neither revoked nor expired at ``now_s``."""
        return self.revoked_at is None and (self.expires_at is None or now_s < self.expires_at)


class KeyFileBroken(Exception):
    """The key file cannot be read; the keys known before stay in force."""


def digest_of(token: str, pepper: bytes) -> str:
    """The kept form of a key."""
    return hmac.new(pepper, token.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def read_pepper(data_dir: Path) -> bytes:
    """The server's pepper: from ``BURSAR_KEY_PEPPER``, else a file made on first use (mode 0600)."""
    given = os.environ.get(PEPPER_VARIABLE, "").strip()
    if given:
        return given.encode()
    path = data_dir / "pepper"
    data_dir.mkdir(parents=True, exist_ok=True)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(fd, "wb") as file:
        file.write(secrets.token_hex(32).encode())
    return path.read_bytes()


class KeyRing:
    """The keys of one data directory. Changes made by another process are seen by :meth:`refresh`."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "keys.json"
        self._data_dir = data_dir
        self._pepper: bytes | None = None
        self._stamp: tuple[int, int] | None = None
        self._by_digest: dict[str, VirtualKey] = {}
        self.refresh()

    def __len__(self) -> int:
        return len(self._by_digest)

    def __iter__(self) -> Any:
        return iter(self._by_digest.values())

    def refresh(self) -> bool:
        """Read the file again if it changed; True when it had.

        Raises:
            KeyFileBroken: it cannot be read.
        """
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise KeyFileBroken(f"{self.path}: {error.strerror}") from error
        stamp = (stat.st_mtime_ns, stat.st_ino)
        if stamp == self._stamp:
            return False
        try:
            rows = json.loads(self.path.read_text(encoding="utf-8"))["keys"]
            names = {item.name for item in fields(VirtualKey)}
            keys = [VirtualKey(**{k: _frozen(v) for k, v in row.items() if k in names}) for row in rows]
        except (OSError, ValueError) as error:
            raise KeyFileBroken(f"{self.path}: {error}") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise KeyFileBroken(f"{self.path}: holds no list of keys as we write it") from error
        self._stamp = stamp
        self._by_digest = {key.digest: key for key in keys}
        return True

    def find(self, token: str, now_s: float) -> VirtualKey | None:
        """The valid key that ``token`` is, if any."""
        if self._pepper is None:
            self._pepper = read_pepper(self._data_dir)
        digest = digest_of(token, self._pepper)
        key = self._by_digest.get(digest)
        if key is None or not hmac.compare_digest(key.digest, digest) or not key.is_valid(now_s):
            return None
        return key

    def create(self, now_s: float, **facts: Any) -> tuple[str, VirtualKey]:
        """A new key and what is kept of it. The key is shown here and never again."""
        token = PREFIX + secrets.token_urlsafe(32)
        digest = digest_of(token, read_pepper(self._data_dir))
        key = VirtualKey(id=PREFIX + digest[:6], digest=digest, created_at=int(now_s), **facts)
        self._save([*self._by_digest.values(), key])
        return token, key

    def revoke(self, key_id: str, now_s: float) -> VirtualKey | None:
        """End the key with this id; None when there is none."""
        found = None
        kept = []
        for key in self._by_digest.values():
            if key.id == key_id and key.revoked_at is None:
                row = asdict(key) | {"revoked_at": int(now_s)}
                key = found = VirtualKey(**{name: _frozen(value) for name, value in row.items()})
            kept.append(key)
        if found:
            self._save(kept)
        return found

    def _save(self, keys: list[VirtualKey]) -> None:
        import tempfile  # A sidecar only reads keys, and has memory to save.

        self._data_dir.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(dir=self._data_dir, prefix="keys-")
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump({"keys": [asdict(key) for key in keys]}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(self.path)
        self.refresh()


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
