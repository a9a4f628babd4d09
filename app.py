"""The Chalice application: every entry point of the token service, a line or two each."""

from __future__ import annotations

import os
import sys
from typing import Any

from chalice import Chalice, Rate
from chalice.app import AuthRequest, AuthResponse, CloudWatchEvent

from chalicelib import __version__, runtime

if "AWS_CHALICE_CLI_MODE" in os.environ and "local" in sys.argv:  # never in Lambda
    from dev import chalice_local

    chalice_local.prepare(sys.argv[1:])

app = Chalice(app_name="tokenservice", configure_logs=False)


@app.authorizer(ttl_seconds=runtime.settings().authorizer_ttl_seconds)
def basic_auth(request: AuthRequest) -> AuthResponse | dict[str, Any] | None:
    """Check Basic credentials for all routes."""
    return runtime.authorizer()(request)


@app.lambda_function(name="forward_logs")
def forward_logs(event: dict[str, Any], context: Any) -> None:
    """Carry a CloudWatch Logs subscription event to Splunk."""
    runtime.forwarder().forward(event, context.get_remaining_time_in_millis)


@app.on_cw_event(
    {
        "source": ["aws.cloudwatch", "aws.codepipeline", "aws.codebuild"],
        "detail-type": [
            "CloudWatch Alarm State Change",
            "CodePipeline Pipeline Execution State Change",
            "CodeBuild Build State Change",
        ],
    },
    name="forward_events",
)
def forward_events(event: CloudWatchEvent) -> None:
    """Carry a change of an alarm's or a pipeline's state to Splunk."""
    context: Any = event.context
    runtime.forwarder().forward_event(event.to_dict(), context.get_remaining_time_in_millis)


@app.schedule(Rate(runtime.settings().splunk.redrive_minutes, unit=Rate.MINUTES), name="redrive")
def redrive(event: CloudWatchEvent) -> None:
    """Try again what Splunk did not take."""
    context: Any = event.context
    runtime.redriver().run(context.get_remaining_time_in_millis)


if runtime.runs("app.app"):
    from chalicelib.http import routes, schemas

    build = schemas.VersionAnswer("tokenservice", __version__, runtime.settings().commit, runtime.settings().stage)
    app.register_blueprint(routes.blueprint(basic_auth, runtime.token_service, build), url_prefix=routes.BASE_PATH)

runtime.warm_up()
