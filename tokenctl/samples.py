"""Each operation of the OpenAPI document as somebody calls it: curl, Python and Java.

The samples read `API`, `TOKENSERVICE_USER`, `TOKENSERVICE_PASSWORD`, `TOKEN` and `TOKEN_ID` from the environment, and
are whole programs: tests/e2e/test_examples.py runs every one of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chalicelib import __version__

_NODE: Final = "f2f42052-6e24-4c54-bc15-1e0bb6dce9f7"
_VARIABLE: Final = re.compile(r"\$(TOKEN_ID|TOKEN)\b")
_NO_CONTENT: Final = 204
KEY: Final = {"Idempotency-Key": "alice-opens-report-1"}


@dataclass(frozen=True)
class Example:
    """One call; `$TOKEN` and `$TOKEN_ID` in it stand for the variables of that name.

    Attributes:
        client: the same with tokenservice_client, as an expression whose value is worth printing; None: it has none.
        status: what the service answers.
        answer: such an answer; None: it has no body, or one that says nothing here.
    """

    method: str
    path: str
    status: int
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    client: str | None = None
    answer: Mapping[str, Any] | None = None


_ISSUED: Final = {
    "token": "a7c11420c2250d69bdfdc94284ff4579b2ce9a6584f1a4104541455f832efd13",
    "tokenId": "tok_1228dd811171a0516b452c6aec606eaa",
    "expiresAt": "2026-11-21T12:10:00.000Z",
    "maxUses": 3,
    "actions": ["download"],
}
_ISSUED_TOO: Final = {
    "token": "4fa02aa44ec1cbcf02b0e2fdf9b50b2c3e0e4c9f1f76a5c1f2b9d5e7a86c3d10",
    "tokenId": "tok_11e4dd4bc50145731addd2584bcf9bc0",
    "expiresAt": "2026-11-21T12:10:00.000Z",
    "maxUses": 1,
    "actions": ["download"],
}
_GRANTED: Final = {
    "tokenId": _ISSUED["tokenId"],
    "nodeId": _NODE,
    "actions": ["download"],
    "usesRemaining": 2,
    "expiresAt": _ISSUED["expiresAt"],
    "user": "alice",
}
_USE: Final = {"token": "$TOKEN", "user": "alice", "ipAddress": "192.0.2.7", "action": "download"}
_USED: Final = {**_GRANTED, "useId": "use_cf3bd346e74f993690c689a6d0ab4502"}
_STATUS: Final = {
    "tokenId": _ISSUED["tokenId"],
    "issuer": "demo",
    "issuedAt": "2026-11-21T12:00:00.000Z",
    "expiresAt": _ISSUED["expiresAt"],
    "actions": ["download"],
    "maxUses": 3,
    "usesRemaining": 2,
    "claims": [
        {
            "useId": _USED["useId"],
            "at": "2026-11-21T12:01:30.250Z",
            "clientId": "demo",
            "user": "alice",
            "ipAddress": "192.0.2.7",
            "action": "download",
        }
    ],
    "mismatches": 0,
    "locked": False,
    "revoked": False,
    "user": "alice",
}

EXAMPLES: Final[Mapping[str, Example]] = {
    "issueToken": Example(
        "POST",
        "/token",
        201,
        {"nodeId": _NODE, "user": "alice", "maxUses": 3, "expiresIn": 600},
        client=f'client.issue("{_NODE}", user="alice", max_uses=3, expires_in=600).token',
        answer=_ISSUED,
    ),
    "issueTokens": Example(
        "POST",
        "/tokens",
        201,
        {"tokens": [{"nodeId": "report-1", "user": "alice"}, {"nodeId": "report-2", "user": "alice"}]},
        client='[issued.token for issued in client.issue_many([Terms(node_id="report-1"), Terms(node_id="report-2")])]',
        answer={"tokens": [{**_ISSUED, "maxUses": 1}, _ISSUED_TOO]},
    ),
    "useTokenByQuery": Example("GET", "/use", 200, query=_USE, headers=KEY, answer=_USED),
    "useToken": Example(
        "POST",
        "/use",
        200,
        _USE,
        headers=KEY,
        client='client.use($TOKEN, user="alice", ip_address="192.0.2.7", action="download").node_id',
        answer=_USED,
    ),
    "introspectToken": Example(
        "POST",
        "/introspect",
        200,
        {"token": "$TOKEN", "user": "alice"},
        client='client.introspect($TOKEN, user="alice").active',
        answer={"active": True, **_GRANTED},
    ),
    "getToken": Example(
        "GET", "/token/$TOKEN_ID", 200, client="client.status($TOKEN_ID).uses_remaining", answer=_STATUS
    ),
    "revokeToken": Example("DELETE", "/token/$TOKEN_ID", 204, client="client.revoke($TOKEN_ID)"),
    "revokeTokens": Example(
        "POST",
        "/revoke",
        200,
        {"user": "alice"},
        client='client.revoke_all(user="alice")',
        answer={"revoked": 3, "more": False},
    ),
    "getVersion": Example(
        "GET",
        "/version",
        200,
        client="client.version().version",
        answer={"service": "tokenservice", "version": __version__, "commit": "53abdd5", "stage": "prod"},
    ),
    "getOpenApi": Example("GET", "/openapi.json", 200),
}
"""By operation id."""


def shown(text: str) -> str:
    """A text of an example with the token of the answers shown, and its id, in the place of the variables."""
    return _VARIABLE.sub(lambda found: str(_ISSUED["tokenId" if found[1] == "TOKEN_ID" else "token"]), text)


def samples(operation: str) -> list[dict[str, str]]:
    """What goes under `x-codeSamples` of an operation."""
    example = EXAMPLES[operation]
    made = [
        {"lang": "Shell", "label": "curl", "source": _curl(example)},
        {"lang": "Python", "label": "Python: requests", "source": _requests(example)},
    ]
    if example.client:
        made.append({"lang": "Python", "label": "Python: tokenservice_client", "source": _client(example)})
    name = operation[0].upper() + operation[1:]
    made.append({"lang": "Java", "label": "Java 17", "source": _java(name, example)})
    return made


def _curl(example: Example) -> str:
    method = {"DELETE": " -X DELETE"}.get(example.method, " -G" if example.query else "")
    start = 'curl --fail-with-body -u "$TOKENSERVICE_USER:$TOKENSERVICE_PASSWORD"'
    parts = [f'{start}{method} "$API{example.path}"']
    if example.query:
        parts += [f'--data-urlencode "{name}={value}"' for name, value in example.query.items()]
    headers = dict(example.headers)
    if example.body is None:
        return _in_lines([*parts, *_curl_headers(headers)])
    parts += _curl_headers({"Content-Type": "application/json", **headers})
    return f"{_in_lines([*parts, '-d @- <<END'])}\n{json.dumps(example.body)}\nEND"


def _curl_headers(headers: Mapping[str, str]) -> list[str]:
    return [f"-H '{name}: {value}'" for name, value in headers.items()]


def _in_lines(parts: list[str]) -> str:
    return " \\\n    ".join(parts)


def _requests(example: Example) -> str:
    given = [
        f"{_with(example.path, _in_python, 'api')},",
        'auth=(os.environ["TOKENSERVICE_USER"], os.environ["TOKENSERVICE_PASSWORD"]),',
    ]
    for name, value in (("params", example.query), ("headers", example.headers), ("json", example.body)):
        if value:
            given.append(f"{name}={_variables(json.dumps(value), _in_python)},")
    given.append("timeout=10,")
    lines = "\n    ".join(given)
    told = "answer.status_code" if example.status == _NO_CONTENT else "answer.json()"
    return (
        f'import os\n\nimport requests\n\napi = os.environ["API"]\nanswer = requests.{example.method.lower()}(\n'
        f"    {lines}\n)\nanswer.raise_for_status()\nprint({told})"
    )


def _client(example: Example) -> str:
    call = _VARIABLE.sub(lambda found: _in_python(found[1]), example.client or "")
    told = call if example.status == _NO_CONTENT else f"print({call})"
    names = "Terms, TokenServiceClient" if "Terms(" in call else "TokenServiceClient"
    return (
        f"import os\n\nfrom tokenservice_client import {names}\n\n"
        'user, password = os.environ["TOKENSERVICE_USER"], os.environ["TOKENSERVICE_PASSWORD"]\n'
        f'with TokenServiceClient(os.environ["API"], user, password) as client:\n    {told}'
    )


def _java(name: str, example: Example) -> str:
    query = "&".join(f"{key}={value}" for key, value in example.query.items())
    target = _with(example.path + (f"?{query}" if query else ""), _in_java, "api")
    headers = {**({"Content-Type": "application/json"} if example.body else {}), **example.headers}
    steps = [f'.header("{key}", "{value}")' for key, value in headers.items()]
    publishers = ""
    if example.body:
        text = json.dumps(example.body)
        found = _VARIABLE.search(text)
        values = f".formatted({_in_java(found[1])})" if found else ""
        steps.append(f'.POST(BodyPublishers.ofString("""\n                {_VARIABLE.sub("%s", text)}"""{values}))')
        publishers = "import java.net.http.HttpRequest.BodyPublishers;\n"
    elif example.method == "DELETE":
        steps.append(".DELETE()")
    told = "answer.statusCode()" if example.status == _NO_CONTENT else "answer.body()"
    lines = "".join(f"\n            {step}" for step in steps)
    return f"""import static java.nio.charset.StandardCharsets.UTF_8;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
{publishers}import java.net.http.HttpResponse.BodyHandlers;
import java.util.Base64;

class {name} {{
    public static void main(String[] arguments) throws Exception {{
        var api = System.getenv("API");
        var credentials = System.getenv("TOKENSERVICE_USER") + ":" + System.getenv("TOKENSERVICE_PASSWORD");
        var request = HttpRequest.newBuilder(URI.create({target}))
            .header("Authorization", "Basic " + Base64.getEncoder().encodeToString(credentials.getBytes(UTF_8))){lines}
            .build();
        var answer = HttpClient.newHttpClient().send(request, BodyHandlers.ofString());
        if (answer.statusCode() != {example.status}) throw new IllegalStateException(answer.body());
        System.out.println({told});
    }}
}}"""


def _in_python(variable: str) -> str:
    return f'os.environ["{variable}"]'


def _in_java(variable: str) -> str:
    return f'System.getenv("{variable}")'


def _with(path: str, read: Callable[[str], str], base: str) -> str:
    """The address in a programming language: text, variables and text added up."""
    parts = [part for part in _VARIABLE.split(path) if part]
    told = [read(part) if f"${part}" in path else json.dumps(part) for part in parts]
    return " + ".join([base, *told])


def _variables(text: str, read: Callable[[str], str]) -> str:
    """Put variables in the place of the strings of JSON that name them."""
    return re.sub(r'"\$(TOKEN_ID|TOKEN)"', lambda found: read(found[1]), text)
