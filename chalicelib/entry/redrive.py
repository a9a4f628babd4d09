"""The scheduled redrive of what Splunk did not accept in time."""

from __future__ import annotations

import os
from functools import cache

from chalicelib.aws.services import READ_ENTRIES, S3
from chalicelib.entry import startup
from chalicelib.splunk import forward
from chalicelib.splunk.forward import Forwarder
from chalicelib.splunk.record import S3Record
from chalicelib.splunk.redrive import ScheduledRedrive
from chalicelib.splunk.waiting import BucketSource


@cache
def redriver() -> ScheduledRedrive:
    settings = startup.settings()
    metric = startup.audit().metrics
    bucket = settings.splunk.failure_bucket
    if not (settings.splunk.hec_url and bucket):
        return ScheduledRedrive(None, Forwarder(None, settings.stage), metric)
    s3 = S3.from_environ(os.environ, READ_ENTRIES)
    # Without a log group of its own: what this function logs is forwarded, so it may wait here like all else.
    replay = forward.build_forwarder(settings.splunk, settings.stage, record=S3Record(bucket, s3), write_metrics=metric)
    return ScheduledRedrive(BucketSource(s3, bucket), replay, metric)
