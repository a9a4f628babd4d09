"""The floor: what issue and use cost when everything is written by hand, down to the socket.

It signs, sends one conditional write, reads the answer and keeps the connection. No retries, no checksums, no audit:
nobody should run it. One call is sent in the init phase.
"""

from __future__ import annotations

import json
import os
import socket
import ssl

import record
import sigv4

TABLE = os.environ["TOKEN_TABLE"]


class Connection:
    """One connection, kept open; a closed one is made anew, once a call."""

    def __init__(self, url):
        self._host = url.partition("://")[2]
        name, _, port = self._host.partition(":")
        self._address = (name, int(port))
        self._context = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
        self._socket = None

    def call(self, operation, request):
        """The status and the answer of one DynamoDB operation."""
        body = json.dumps(request, separators=(",", ":")).encode()
        headers = sigv4.signed(self._host, operation, body)
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        sent = f"POST / HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body
        for attempt in (1, 2):
            try:
                if self._socket is None:
                    self._connect()
                self._socket.sendall(sent)
                status, answer = self._receive()
                return status, json.loads(answer)
            except OSError:
                self._socket = None
                if attempt == 2:
                    raise
        return None

    def _connect(self):
        plain = socket.create_connection(self._address, timeout=30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = self._context.wrap_socket(plain, server_hostname=self._address[0])

    def _receive(self):
        read = b""
        while (end := read.find(b"\r\n\r\n")) < 0:
            read += self._more()
        head = read[:end].lower()
        found = head.index(b"\r\ncontent-length:") + len(b"\r\ncontent-length:")
        length = int(head[found:].partition(b"\r\n")[0])
        body = read[end + 4 :]
        while len(body) < length:
            body += self._more()
        return int(head[9:12]), body

    def _more(self):
        read = self._socket.recv(65536)
        if not read:
            raise ConnectionError("closed")
        return read


dynamodb = Connection(os.environ["AWS_ENDPOINT_URL"])
dynamodb.call("GetItem", {"TableName": TABLE, "Key": {"id": {"S": "warm"}}})


def issue(event):
    client = record.require_scope(event["requestContext"], "issue")
    request, issued = record.issue_request(TABLE, client, event["body"])
    status, answer = dynamodb.call("PutItem", request)
    if status != 200:
        raise RuntimeError(answer)
    return record.proxy_answer(201, issued)


def use(event):
    client = record.require_scope(event["requestContext"], "use")
    digest, at = record.digest_of(record.read_use(event["body"])), record.now()
    use_id, request = record.claim_request(TABLE, digest, client, at)
    status, answer = dynamodb.call("UpdateItem", request)
    if status != 200:
        if not answer.get("__type", "").endswith("ConditionalCheckFailedException"):
            raise RuntimeError(answer)
        raise record.refusal(answer.get("Item"), digest, at)
    return record.proxy_answer(200, record.use_answer(answer["Attributes"], use_id))


app = record.routed(issue, use)
