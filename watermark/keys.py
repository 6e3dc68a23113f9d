"""The owner's key and everything that is derived from it: keyed streams of bytes and of exactly uniform integers.

A key is 32 random bytes. What a mark needs (which images are blended, which class a trigger gets) is read from streams
that HMAC-SHA256 expands from the key and a context. Only integers are used, so the same key gives the same trigger set
on every platform and with every library version; a test holds the first bytes fixed.
"""

import hashlib
import hmac
import json
import os
import secrets
import stat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attacks.errors import InputError

KEY_BYTES = 32
DOMAIN = b"repromark/watermark/1"
FORMAT = "repromark-owner-key"
_LONGEST_FILE = 4096

Context = str | bytes | int
"""A part of the name of a stream."""
_KINDS: dict[type, bytes] = {str: b"s", bytes: b"b", int: b"i"}


def encode(*parts: Context) -> bytes:
    """One byte string per sequence of parts: every part carries its type and its length, so no two sequences collide.

    Example:
        >>> encode("ab", "c") == encode("a", "bc"), encode(1) == encode("1")
        (False, False)
    """
    out = []
    for part in parts:
        raw = part if isinstance(part, bytes) else str(part).encode()
        out += [_KINDS[type(part)], len(raw).to_bytes(8, "big"), raw]
    return b"".join(out)


class KeyedStream:
    """An endless stream of pseudorandom bytes, HMAC-SHA256 in counter mode, read from its beginning.

    Reading in pieces gives what reading at once gives.

    Args:
        seed: 32 secret bytes.
        context: what the stream is for; streams of different contexts are independent for whoever lacks the seed.

    Example:
        >>> stream = KeyedStream(bytes(32), "example")
        >>> stream.read(4).hex(), stream.integers(10, 8).tolist()
        ('54fc06be', [6, 1, 6, 6, 2, 4, 1, 1])
    """

    def __init__(self, seed: bytes, *context: Context) -> None:
        self._key = hmac.digest(seed, encode(DOMAIN, "stream", *context), "sha256")
        self._block = 0
        self._rest = b""

    def read(self, n: int) -> bytes:
        """The next ``n`` bytes."""
        blocks = [self._rest]
        for _ in range(-(-(n - len(self._rest)) // 32)):
            blocks.append(hmac.digest(self._key, self._block.to_bytes(8, "big"), "sha256"))
            self._block += 1
        out = b"".join(blocks)
        self._rest = out[n:]
        return out[:n]

    def integer(self, bound: int) -> int:
        """The next integer, exactly uniform in ``0 .. bound - 1``.

        A word of 64 bits is reduced modulo ``bound``; words beyond the last full multiple of ``bound`` are thrown away
        first, which is what makes the result exactly uniform.

        Args:
            bound: 1 to 2**63.

        Raises:
            InputError: ``bound`` lies outside its range.
        """
        if not 1 <= bound <= 2**63:
            raise InputError(f"Got bound={bound}: it must lie in 1 .. 2**63.")
        full = 2**64 // bound * bound
        while (word := int.from_bytes(self.read(8), "big")) >= full:
            pass
        return word % bound

    def integers(self, bound: int, n: int) -> NDArray[np.int64]:
        """The next ``n`` integers, each as :meth:`integer` gives it; int64, shape ``[n]``."""
        return np.array([self.integer(bound) for _ in range(n)], dtype=np.int64)


class OwnerKey:
    """The owner's secret. Whoever holds it can show that a model carries the mark; keep it out of logs and of git.

    Args:
        secret: exactly 32 bytes from a cryptographic random source; :meth:`generate` draws them.

    Raises:
        InputError: ``secret`` is not 32 bytes.

    Example:
        >>> key = OwnerKey(bytes(range(32)))  # for the example only: a real key comes from OwnerKey.generate()
        >>> key
        OwnerKey(commitment='7d5171cf8881...')
        >>> key.stream("greeting").read(4).hex()
        'c8135716'
    """

    def __init__(self, secret: bytes) -> None:
        if not isinstance(secret, bytes) or len(secret) != KEY_BYTES:
            raise InputError(
                f"An owner's key is exactly {KEY_BYTES} bytes; got {type(secret).__name__}"
                + (f" of length {len(secret)}" if isinstance(secret, bytes) else "")
                + ". OwnerKey.generate() makes a new one, OwnerKey.load(path) reads one."
            )
        self._secret = secret

    @classmethod
    def generate(cls) -> "OwnerKey":
        """A new key from the operating system's random source."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @property
    def commitment(self) -> str:
        """The key's public name: SHA-256 of the secret under a prefix of its own, 64 hex digits.

        It binds the owner to this key and tells nothing of the secret or of any trigger.
        """
        return hashlib.sha256(encode(DOMAIN, "commitment", self._secret)).hexdigest()

    def derive(self, *context: Context) -> bytes:
        """32 secret bytes for one purpose. Showing them to a judge reveals that purpose alone, not the key."""
        return hmac.digest(self._secret, encode(DOMAIN, "derive", *context), "sha256")

    def stream(self, *context: Context) -> KeyedStream:
        """The keyed stream of a context."""
        return KeyedStream(self.derive(*context))

    def decoy(self, index: int) -> "OwnerKey":
        """A wrong key for controls: as good as a random one, yet the same each time."""
        return OwnerKey(self.derive("decoy", index))

    def save(self, path: str | Path) -> None:
        """Writes the key to a new file that only its owner may read (mode 0600).

        An existing file is never replaced: a lost key cannot be had again. Where writing fails, no part of it stays.

        Args:
            path: the file to create; its folder must exist.

        Raises:
            InputError: something stands at ``path`` already, its folder does not exist, or it cannot be written.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise InputError(f"There is no folder {path.parent} to write the key {path.name} to: create it first.")
        text = json.dumps({"format": FORMAT, "version": 1, "secret": self._secret.hex(), "commitment": self.commitment})
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)  # never replaces, nor follows a link
        except FileExistsError:
            raise InputError(f"{path} exists already and a key is never overwritten: choose another file.") from None
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror}): choose another place.") from error
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink()
            raise

    @classmethod
    def load(cls, path: str | Path) -> "OwnerKey":
        """Reads a key that :meth:`save` wrote.

        Args:
            path: the key's file, readable by its owner alone.

        Raises:
            InputError: there is no such file, others may read it, or it is not a whole key.

        Example:
            >>> OwnerKey.load("my.key")
            Traceback (most recent call last):
            ...
            attacks.errors.InputError: There is no key file at my.key: check the path. A new key, for a mark that is \
still to be embedded, is made by `repromark watermark keygen --out my.key` or OwnerKey.generate().save('my.key').
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(
                f"There is no key file at {path}: check the path. A new key, for a mark that is still to be embedded, "
                f"is made by `repromark watermark keygen --out {path}` or OwnerKey.generate().save({str(path)!r})."
            )
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if os.name == "posix" and mode & 0o077:
                raise InputError(
                    f"{path} has mode {mode:04o}, so others on this machine may read the secret: "
                    f"run `chmod 600 {path}`, and make a new key if somebody could have read this one."
                )
            raw = file.read(_LONGEST_FILE)
        try:
            content = json.loads(raw)
            key = cls(bytes.fromhex(content["secret"]))
            whole = (content["format"], content["version"], content["commitment"]) == (FORMAT, 1, key.commitment)
        except (
            ValueError,
            TypeError,
            KeyError,
            RecursionError,
        ):  # not `from error`: its text could show a part of the secret
            whole = False
        if not whole:
            raise InputError(f"{path} is not a whole key file of version 1: restore it from a copy.") from None
        return key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnerKey) and hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.commitment)

    def __repr__(self) -> str:
        return f"OwnerKey(commitment='{self.commitment[:12]}...')"
