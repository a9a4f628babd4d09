"""Carries log events and AWS events to Splunk's HTTP Event Collector (HEC) and loses none.

    envelope   what CloudWatch Logs hands over, decoded
    hec        the collector's protocol: events, batches and what its answers mean; pure
    transport  one HTTPS request, with a bound on its whole duration
    delivery   sends batches until each event is accepted, set aside or out of time
    secret     the HEC token, read anew after a while or when it was refused
    record     the failure record: what Splunk did not take is kept here
    entries    what goes into it, in bounded time and memory
    ledger     what became of an invocation's events, and the metrics of it
    waiting    what waits in it to be replayed
    redrive    replays that, by a schedule or for a person
    forward    all of them together; what the Lambda functions call

Nothing here imports the REST service or its storage: a forwarder must start fast and small.
"""
