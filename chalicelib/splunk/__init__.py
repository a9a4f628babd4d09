"""Carries log events and AWS events to Splunk's HTTP Event Collector (HEC) and loses none.

    ledger     what became of each log event, and why none is lost: start here
    forward    decodes, delivers, stores what was not accepted; the Lambda functions call it
    envelope   CloudWatch Logs' subscription events, decoded and encoded
    hec        the collector's protocol: events and batches; pure
    verdicts   what an answer of the collector means for the events that were sent; pure
    delivery   sends batches until each event is accepted, rejected or out of time
    transport  one HTTPS request, with a limit on its whole duration
    secret     the HEC token, read again after a while or when it was refused
    record     the failure record: a bucket or a folder of entries
    entries    writes them, in bounded time
    waiting    reads and removes them
    redrive    replays them, by a schedule or for a person
    errors     what can go wrong on the way

Nothing here imports the REST service or its storage: a forwarder must start fast and small.
"""
