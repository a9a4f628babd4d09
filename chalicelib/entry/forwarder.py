"""The forwarders of log events and of AWS events."""

from __future__ import annotations

import os
from functools import cache

from chalicelib.entry import startup
from chalicelib.splunk import forward
from chalicelib.splunk.forward import Forwarder
from chalicelib.splunk.record import S3Record


@cache
def forwarder() -> Forwarder:
    settings = startup.settings()
    bucket = settings.splunk.failure_bucket
    return forward.build_forwarder(
        settings.splunk,
        settings.stage,
        record=S3Record(bucket) if bucket else None,
        write_metrics=startup.audit().metrics,
        own_log_group=os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME"),
    )
