"""The scheduled redrive of what Splunk did not accept in time."""

from __future__ import annotations

import os
from functools import cache

from chalicelib.aws.services import READ_ENTRIES, S3
from chalicelib.entry import process
from chalicelib.splunk import forward
from chalicelib.splunk.record import S3Record
from chalicelib.splunk.redrive import ScheduledRedrive
from chalicelib.splunk.waiting import BucketSource


@cache
def redriver() -> ScheduledRedrive:
    settings = process.settings()
    bucket = settings.splunk.failure_bucket
    source = record = None
    if settings.splunk.hec_url and bucket:
        s3 = S3.from_environ(os.environ, READ_ENTRIES)
        source, record = BucketSource(s3, bucket), S3Record(bucket, s3)
    metric = process.audit().metrics
    # Without a log group of its own: what this function logs is forwarded, so it may wait here like all else.
    replay = forward.forwarder(settings.splunk, settings.stage, record=record, metric=metric)
    return ScheduledRedrive(source, replay, metric)
