"""The Chalice application: four functions of ours, and `app.app`, by which Chalice calls the routes."""

from __future__ import annotations

from chalicelib.entry import startup  # first: it decides what PynamoDB gets in botocore's place

# isort: split
import os
import sys
from typing import Any

from chalice import Chalice, Rate
from chalice.app import AuthRequest, AuthResponse, CloudWatchEvent

if "AWS_CHALICE_CLI_MODE" in os.environ and "local" in sys.argv:  # never in Lambda
    from dev import chalice_local

    chalice_local.prepare(sys.argv[1:])

app = Chalice(app_name="tokenservice", configure_logs=False)
app.api.binary_types = []  # every body is text


@app.authorizer(ttl_seconds=startup.settings().authorizer_ttl_seconds)
def basic_auth(request: AuthRequest) -> AuthResponse | dict[str, Any] | None:
    """Check Basic credentials for all routes."""
    from chalicelib.entry.authorizer import authorizer

    return authorizer()(request)


@app.lambda_function(name="forward_logs")
def forward_logs(event: dict[str, Any], context: Any) -> None:
    """Carry a CloudWatch Logs subscription event to Splunk."""
    from chalicelib.entry.forwarder import forwarder

    forwarder().forward(event, context.get_remaining_time_in_millis)


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
    from chalicelib.entry.forwarder import forwarder

    context: Any = event.context
    forwarder().forward_event(event.to_dict(), context.get_remaining_time_in_millis)


@app.schedule(Rate(startup.settings().splunk.redrive_minutes, unit=Rate.MINUTES), name="redrive")
def redrive(event: CloudWatchEvent) -> None:
    """Send again what Splunk did not accept in time."""
    from chalicelib.entry.redrive import redriver

    context: Any = event.context
    redriver().run(context.get_remaining_time_in_millis)


if startup.serves("app.app"):
    from chalicelib.entry import api

    app.register_blueprint(api.blueprint(basic_auth), url_prefix=api.BASE_PATH)

startup.start()
