"""The keys under which the indexes hold tokens: hashes of node ids and of users.

A key of an index may hold 2,048 bytes, a node id 4,096; and no index may name a document.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final, TypeAlias

from chalicelib.aws.errors import AwsError
from chalicelib.errors import StoreUnavailable
from chalicelib.tokens import canonical

_LEAST_CHARACTERS: Final = 32
_LOG = logging.getLogger("tokenservice")

Secrets: TypeAlias = Callable[[], Sequence[bytes]]
"""The secrets of the index of nodes, the newest first. Without any, a node's key is its plain hash, which confirms
whoever guesses the id."""


def user_key(user: str) -> str:
    """The index key of a user: SHA-256 of its canonical form, as 64 hex characters."""
    return _sha256(canonical(user))


def node_key(node_id: str, secrets: Sequence[bytes] = ()) -> str:
    """The index key of a node id: HMAC-SHA-256 of its canonical form, under the newest secret."""
    return _hmac(secrets[0], canonical(node_id)) if secrets else _sha256(canonical(node_id))


def user_keys(user: str) -> list[str]:
    """The index keys under which a user may stand.

    Tokens stored before names were normalised stand under what was sent: most likely form C, form D, or what is sent
    now. None of them lives longer than 30 days.
    """
    if user.isascii():
        return [user_key(user)]
    from unicodedata import normalize  # noqa: PLC0415 - as in `canonical()`

    return [_sha256(each) for each in dict.fromkeys((canonical(user), normalize("NFD", user), user))]


def node_keys(node_id: str, secrets: Sequence[bytes]) -> list[str]:
    """The same for a node id: under each secret, and as it was stored before there was one."""
    return [_hmac(secret, canonical(node_id)) for secret in secrets] + user_keys(node_id)


def read_secrets(parameter: str, ssm: Any) -> tuple[bytes, ...]:
    """Read the secrets from an SSM SecureString: one or more, the newest first, parted by white space.

    Args:
        ssm: called like botocore's SSM client, but raises our errors.

    Raises:
        StoreUnavailable: it can't be read, or holds no secret of at least 32 characters. The log says which.
    """
    try:
        value = str(ssm.get_parameter(Name=parameter, WithDecryption=True)["Parameter"]["Value"])
    except AwsError as error:
        _LOG.error("INDEX_KEY_PARAMETER: %r can't be read: %s", parameter, error.why)
        raise StoreUnavailable from None
    secrets = tuple(value.encode().split())
    if not secrets or min(map(len, secrets)) < _LEAST_CHARACTERS:
        _LOG.error("INDEX_KEY_PARAMETER: %r needs secrets of at least %d characters", parameter, _LEAST_CHARACTERS)
        raise StoreUnavailable
    return secrets


def _hmac(secret: bytes, text: str) -> str:
    return hmac.digest(secret, text.encode(), "sha256").hex()


def _sha256(text: str) -> str:
    return sha256(text.encode()).hexdigest()
