"""Every client of ours that speaks TLS: which servers it sends something to."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from tokenservice_client import TokenServiceClient

from chalicelib.aws.connection import Endpoint
from chalicelib.splunk.transport import Transport
from examples.document_gateway.content import ContentApi
from tests.support.scripted_server import Server, drop

HOST = "localhost"
SECONDS = 30.0


def to_aws(url: str, bundle: str) -> object:
    endpoint = Endpoint(url, bundle)
    return endpoint.exchange(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", time.monotonic() + SECONDS)


def to_splunk(url: str, bundle: str) -> object:
    return Transport(url, bundle).post(b"{}", "the-token", SECONDS)


def to_the_service(url: str, bundle: str) -> object:
    with TokenServiceClient(url, "app", "secret", ca_bundle=bundle, patience_seconds=0) as client:
        return client.version()


def to_the_content(url: str, bundle: str) -> object:
    return ContentApi(url, "gateway", "password", bundle).describe("node")


CLIENTS = [to_aws, to_splunk, to_the_service, to_the_content]


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return str(tmp_path / "authority.pem")


def server_context(authority: trustme.CA, common_name: str, alternative: str) -> ssl.SSLContext:
    """A server's side of TLS.

    Args:
        alternative: the only subject alternative name, a host or an address.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(alternative, common_name=common_name).configure_cert(context)
    return context


def sent(context: ssl.SSLContext, client: Callable[[str, str], object], bundle: str) -> bool:
    """Whether a client sends anything to a server; it never gets an answer, and fails either way."""
    with Server(drop, tls=context) as server:
        with pytest.raises(Exception):  # noqa: B017, PT011 - each client has an error of its own
            client(f"https://{HOST}:{server.server_address[1]}", bundle)
        return bool(server.received)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_server_must_have_its_name_where_names_belong(
    client: Callable[[str, str], object], authority: trustme.CA, bundle: str
) -> None:
    """A common name is free text: authorities check it less, and their limits on names do not hold for it."""
    assert sent(server_context(authority, "whatever", HOST), client, bundle)
    # OpenSSL takes the common name by default where a certificate has no alternative name of a host.
    assert not sent(server_context(authority, HOST, "192.0.2.1"), client, bundle)
    assert not sent(server_context(authority, HOST, "elsewhere.example"), client, bundle)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
@pytest.mark.parametrize("client", CLIENTS)
def test_nothing_is_sent_over_a_tls_below_1_2(
    client: Callable[[str, str], object], authority: trustme.CA, bundle: str
) -> None:
    """NIST SP 800-52, revision 2."""
    context = server_context(authority, "whatever", HOST)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert not sent(context, client, bundle)


def test_our_own_client_requires_tls_1_2_whatever_the_machine_is_set_to(bundle: str) -> None:
    tls = Endpoint("https://localhost", bundle)._tls
    assert tls is not None
    assert tls.minimum_version >= ssl.TLSVersion.TLSv1_2
