"""The hash of the edge's passwords, against crypt(3)."""

import pytest
from ansible_collections.django_asgi.site.plugins.module_utils.sha512_crypt import salt_of, sha512_crypt


@pytest.mark.parametrize(
    ("password", "salt", "digest"),
    [
        # The first is the example of the scheme's description; the others are from `openssl passwd -6`.
        ("Hello world!", "saltstring", "svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"),
        ("pässwörd-日本", "saltstring", "CmfhJ/bXe11jjqQpgOipH0zsqxyrudoK4M0Fml1IkxwaoyXDlf8Lxw2uUSPzVq20qfQTa81SQ7Mp193r1Id0N1"),
        (
            "0123456789" * 7,
            "saltstring",
            "uqSsSSqZyQsH8bincZPw8CylGYr4ZAEMVcnhkx5s8KX7Hy4/BXGFc.ycq8nO3GcgPxYQ/KhyXyR2peBfULrza/",
        ),
        ("x", "./0AZaz9./0AZaz9", "xA85tI7o63YnTucEQ8eNJlYgK0rq7jMTUH0MV/M2uAyJEfTG7b0n1tjsx7byD.kW6xnU8dzuSaukoIjn05Y8I1"),
    ],
)
def test_a_hash_is_that_of_crypt(password: str, salt: str, digest: str) -> None:
    assert sha512_crypt(password, salt) == f"$6${salt}${digest}"


@pytest.mark.parametrize("salt", ["", "a" * 17, "a$b", "a:b"])
def test_a_salt_that_crypt_would_cut_is_refused(salt: str) -> None:
    with pytest.raises(ValueError, match="salt"):
        sha512_crypt("password", salt)


def test_a_salt_is_the_same_at_every_run_and_differs_between_users_and_sites() -> None:
    assert salt_of("shop", "anna") == salt_of("shop", "anna")
    assert len({salt_of("shop", "anna"), salt_of("shop", "otto"), salt_of("blog", "anna"), salt_of("shopanna")}) == 4
    assert sha512_crypt("password", salt_of("shop", "anna"))
