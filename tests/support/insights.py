"""Filters of CloudWatch Logs Insights, as far as the runbook and the dashboard use them, and lines to try them on.

A filter that uses anything else raises, so that none passes that was read wrongly.
Source: CloudWatch Logs user guide, "filter" and "Supported logs and discovered fields".
"""

from __future__ import annotations

import json
import logging
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import Any, Final

import pyparsing as pp

from chalicelib.audit import Audit, JsonFormatter
from chalicelib.splunk.errors import SplunkError
from chalicelib.splunk.forward import Forwarder, build_forwarder
from chalicelib.splunk.redrive import ScheduledRedrive
from chalicelib.splunk.waiting import BucketSource
from chalicelib.tokens import Reason
from tests.support import log_lines as lines
from tests.support import splunk_search
from tests.support.hec_faults import ForcedCode
from tests.support.hec_server import HecServer, splunk_settings
from tests.support.memory_bucket import MemoryBucket
from tests.support.splunk_world import MarkedCollector, subscription

Fields = Mapping[str, Any]
Matches = Callable[[Fields], bool]

_OPERATORS: Final = {"=": operator.eq, "!=": operator.ne, ">=": operator.ge}
# Source: AWS Lambda developer guide, "Log formats" and "Python function errors".
_TIMED_OUT: Final = "2026-11-21T12:00:00.123Z 8f5f Task timed out after 29.00 seconds"
_TIMED_OUT_AS_JSON: Final = '{"time":"2026-11-21T12:00:00.123Z","type":"platform.report","record":{"status":"timeout"}}'


# What the runbook and the dashboard use of the language, and the fields that CloudWatch adds.
_WORDS: Final = """SOURCE filter stats count avg sum max pct by sort asc desc fields like and or in limit bin m latest
    display ispresent coalesce as @timestamp @message @log @logStream @type @duration @initDuration"""


def unknown(query: str) -> set[str]:
    """The fields of a query that it does not make itself and that no line of a stage has."""
    words = re.findall(r"(?<![\w@/-])@?[A-Za-z_]\w*", re.sub(r"'[^']*'|\"[^\"]*\"|/[^/]*/", "", query))
    known = {*_WORDS.split(), *re.findall(r"\bas (\w+)", query)}
    known.update(*(fields_of(line) for those in (splunk_search.written(), *written().values()) for line in those))
    return set(words) - known


def filters(query: str) -> list[Matches]:
    """The filters of a query, compiled. Its commands are separated by a bar between spaces.

    Raises:
        pyparsing.ParseException: one of them uses what is not implemented here.
    """
    texts = [part.removeprefix("filter ") for part in query.split(" | ") if part.startswith("filter ")]
    return [_grammar().parse_string(text, parse_all=True)[0] for text in texts]


@cache
def _grammar() -> pp.ParserElement:
    def term(form: pp.ParserElement, matches: Callable[[pp.ParseResults, Fields], bool]) -> pp.ParserElement:
        return form.set_parse_action(lambda found: partial(matches, found.copy()))

    def joined(terms: pp.ParserElement, word: str, join: Callable[[Iterable[bool]], bool]) -> pp.ParserElement:
        form = pp.DelimitedList(terms, pp.Keyword(word))
        return term(form, lambda found, fields: join(each(fields) for each in found))

    field, quoted = pp.Regex(r"@?[A-Za-z]\w*"), pp.QuotedString('"')
    value = quoted | pp.common.number
    some = pp.Suppress("[") + pp.DelimitedList(value) + pp.Suppress("]")
    basic = (
        term(pp.Suppress("ispresent(") + field + pp.Suppress(")"), lambda found, fields: found[0] in fields)
        | term(field + pp.Suppress("in") + some, lambda found, fields: fields.get(found[0]) in list(found[1:]))
        | term(
            field + pp.Suppress("like") + pp.QuotedString("/"),
            lambda found, fields: re.search(found[1], str(fields.get(found[0], ""))) is not None,
        )
        | term(field + pp.Suppress("like") + quoted, lambda found, fields: found[1] in str(fields.get(found[0], "")))
        | term(field + pp.one_of(list(_OPERATORS)) + value, _compares)
    )
    return joined(joined(basic, "and", all), "or", any)


def _compares(found: pp.ParseResults, fields: Fields) -> bool:
    name, sign, wanted = found
    value = fields.get(name)
    if value is None:
        return False
    return bool(_OPERATORS[sign](type(wanted)(value) if not isinstance(wanted, str) else value, wanted))


def fields_of(line: str) -> Fields:
    """The fields that CloudWatch Logs discovers in a line."""
    found = {"@message": line, "@type": line.partition(" ")[0]}
    return {**found, **json.loads(line)} if line.startswith("{") else found


@cache
def written() -> Mapping[str, Sequence[str]]:
    """The lines of a stage in trouble, by the names of log groups that `tokenctl logs query` takes."""
    access = json.loads(lines.ACCESS)
    refusals = [line for reason in Reason for line in lines.of_refusal("prod", reason)]
    crashed = (_TIMED_OUT, json.dumps({"errorMessage": "no", "errorType": "Runtime.ExitError"}))
    with _logged() as authorizer:
        splunk_search.refuse_credentials(authorizer)
    with _logged() as api:
        logging.getLogger("tokenservice").error("a bug")
    functions = [*lines.of_issue("prod"), *lines.of_use("prod"), *refusals, *lines.PLATFORM]
    return {
        "access": [json.dumps(access | {"status": status}) for status in ("200", "401", "503")],
        "api": [*functions, *api, *crashed],
        "authorizer": [*lines.of_authorizer("prod"), *authorizer, *lines.PLATFORM, *crashed],
        **_of_forwarders(),
    }


def _of_forwarders() -> dict[str, Sequence[str]]:
    """What the forwarders and the redrive write while Splunk accepts nothing, and then only some."""
    good, bad = (json.dumps({"requestPayload": subscription([text])}) for text in ("good", "☠07"))
    bucket = MemoryBucket({"failed/good.json": good, "failed/bad.json": bad, "failed/unreadable.json": "[]"})
    with HecServer(MarkedCollector()) as server:
        settings, sound = splunk_settings(server.url, failure_bucket="kept"), server.nodes

        def made(lines_: list[str]) -> Forwarder:
            return build_forwarder(settings, "prod", metric=Audit("prod", "1", lines_.append).metrics)

        server.nodes = [ForcedCode(7)]
        with _logged() as forwarded, suppress(SplunkError):
            made(forwarded).forward(subscription(["a"]), lambda: 60_000)
        with _logged() as redriven:
            audit = Audit("prod", "1", redriven.append)
            schedule = ScheduledRedrive(BucketSource(bucket, "kept"), made(redriven), audit.metrics)
            schedule.run(lambda: 300_000)
            server.nodes = sound
            schedule.run(lambda: 300_000)
    return {
        "forwarder": [*forwarded, *lines.of_forwarder("prod", 3), _TIMED_OUT_AS_JSON],
        "events": [*forwarded, _TIMED_OUT],
        "redrive": [*redriven, _TIMED_OUT, *lines.PLATFORM],
    }


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Collect the diagnostics of the service as its functions write them."""
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(JsonFormatter("prod", "1").format(record))  # type: ignore[method-assign] # to read it here
    logger = logging.getLogger("tokenservice")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
