"""Answers in a store that others can write to: sealed, so that an edited one is told from ours.

A sealed answer is a version, an HMAC-SHA256 over the name it is kept under and what follows, and the
answer; version 2 is encrypted besides (AES-256-GCM, the name authenticated with it). The keys are derived
from the server's pepper, which the store never sees; so an answer cannot be moved to another name either.
"""

import hashlib
import hmac
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_PLAIN: Final = b"\x01"
_ENCRYPTED: Final = b"\x02"
_MAC_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class Tampered(Exception):
    """This was not written by us, or not under this name."""


class EncryptionMissing(Exception):
    """The library for encryption is not installed."""


class Sealer:
    """Seals and opens answers.

    Args:
        secret: the server's pepper.
        encrypt: whether what is sealed from now on is encrypted; both kinds are opened.

    Raises:
        EncryptionMissing: it shall encrypt, and cannot.
    """

    def __init__(self, secret: bytes, *, encrypt: bool = False) -> None:
        self._mac_key = _derived(secret, b"seal")
        self._secret = secret
        self._encrypt = encrypt
        self._cipher: AESGCM | None = None
        self.mark = _derived(secret, b"mark").hex()[:8]
        """Names the pepper in names of answers: those of another installation are never looked at."""
        if encrypt:
            self._ciphers()

    def seal(self, name: bytes, answer: bytes) -> bytes:
        """``answer`` as it may be stored under ``name``."""
        version = _PLAIN
        if self._encrypt:
            version, nonce = _ENCRYPTED, os.urandom(_NONCE_BYTES)
            answer = nonce + self._ciphers().encrypt(nonce, answer, name)
        return version + self._mac(version, name, answer) + answer

    def open(self, name: bytes, sealed: bytes) -> bytes:
        """The answer that was sealed under ``name``.

        Raises:
            Tampered: none was.
            EncryptionMissing: it is encrypted, and cannot be read here.
        """
        version, mac, answer = sealed[:1], sealed[1 : 1 + _MAC_BYTES], sealed[1 + _MAC_BYTES :]
        if not hmac.compare_digest(mac, self._mac(version, name, answer)):
            raise Tampered
        if version == _ENCRYPTED:
            return self._ciphers().decrypt(answer[:_NONCE_BYTES], answer[_NONCE_BYTES:], name)
        return answer

    def _mac(self, version: bytes, name: bytes, answer: bytes) -> bytes:
        head = version + len(name).to_bytes(4) + name
        return hmac.digest(self._mac_key, head + answer, "sha256")

    def _ciphers(self) -> "AESGCM":
        if self._cipher is None:
            try:
                from cryptography.hazmat.primitives.ciphers.aead import AESGCM
            except ImportError as error:
                raise EncryptionMissing(
                    "cache.encrypt needs cryptography: pip install '.[encryption]' in Bursar's clone"
                ) from error
            self._cipher = AESGCM(_derived(self._secret, b"encrypt"))
        return self._cipher


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return hmac.digest(hashlib.sha256(secret).digest(), b"bursar cache " + purpose, "sha256")
