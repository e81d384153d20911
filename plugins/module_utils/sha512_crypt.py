"""SHA-512 crypt ($6$), the hash of passwords that crypt(3) reads on every Debian; neither passlib nor Python 3.13 has to have it.

The scheme is Ulrich Drepper's "Unix crypt using SHA-256 and SHA-512" (akkadia.org/drepper/SHA-crypt.txt); the numbers of its
steps are in the comments.
"""

from __future__ import annotations

import hashlib

ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ROUNDS = 5000  # The scheme's default, which the hash need not name.


def sha512_crypt(password: str, salt: str) -> str:
    """Return the hash of a password as crypt(3) has it: $6$, the salt, $, 86 characters.

    In: the password, and a salt of 1 to 16 characters of ALPHABET. Errors: ValueError for another salt.
    """
    if not 1 <= len(salt) <= 16 or set(salt) - set(ALPHABET):
        raise ValueError("the salt of SHA-512 crypt is 1 to 16 letters, digits, dots or slashes")
    return f"$6${salt}${_encoded(_digest(password.encode(), salt.encode()))}"


def salt_of(*parts: str) -> str:
    """Return a salt of 16 characters, always the same for the same parts."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return "".join(ALPHABET[byte % 64] for byte in digest[:16])


def _digest(password: bytes, salt: bytes) -> bytes:
    inner = _sha512(password + salt + password)  # 4 to 8
    start = password + salt + _repeated(inner, len(password))  # 1 to 3, 9, 10
    length = len(password)
    while length:  # 11
        start += inner if length & 1 else password
        length >>= 1
    digest = _sha512(start)  # 12
    of_password = _repeated(_sha512(password * len(password)), len(password))  # 13 to 16
    of_salt = _repeated(_sha512(salt * (16 + digest[0])), len(salt))  # 17 to 20
    for number in range(ROUNDS):  # 21
        odd = number % 2
        middle = (of_salt if number % 3 else b"") + (of_password if number % 7 else b"")
        digest = _sha512((of_password if odd else digest) + middle + (digest if odd else of_password))
    return digest


def _encoded(digest: bytes) -> str:
    """Return the digest in the scheme's base 64, three bytes of a rotating order at a time (22)."""
    found = ""
    first, second, third = 0, 21, 42
    for _ in range(21):
        found += _base64(digest[first] << 16 | digest[second] << 8 | digest[third], 4)
        first, second, third = second + 1, third + 1, first + 1
    return found + _base64(digest[63], 2)


def _base64(number: int, characters: int) -> str:
    return "".join(ALPHABET[number >> 6 * place & 63] for place in range(characters))


def _repeated(content: bytes, length: int) -> bytes:
    return (content * (length // len(content) + 1))[:length]


def _sha512(content: bytes) -> bytes:
    return hashlib.sha512(content).digest()
