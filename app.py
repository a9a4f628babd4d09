"""The Chalice application: every entry point of the token service, a line or two each."""

from __future__ import annotations

from typing import Any

from chalice import Chalice
from chalice.app import AuthRequest, AuthResponse

from chalicelib import __version__, runtime

app = Chalice(app_name="tokenservice", configure_logs=False)


@app.authorizer(ttl_seconds=runtime.settings().authorizer_ttl_seconds)
def basic_auth(request: AuthRequest) -> AuthResponse | dict[str, Any] | None:
    """Check Basic credentials for all routes."""
    return runtime.authorizer()(request)


if runtime.runs("app.app"):
    from chalicelib import routes, schemas

    build = schemas.VersionAnswer("tokenservice", __version__, runtime.settings().commit, runtime.settings().stage)
    app.register_blueprint(routes.blueprint(basic_auth, runtime.token_service, build), url_prefix=routes.BASE_PATH)
