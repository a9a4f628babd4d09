"""`tokenctl audit`: check the log of a stage, or files of it, against the rules.

Events wait in a temporary database on disk until all of a token are at hand, so that memory does not grow with the log.
"""

from __future__ import annotations

import gzip
import io
import sqlite3
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console

from chalicelib.instants import epoch_ms, now
from chalicelib.tokens import Token
from tokenctl.audit_lines import Found, read, read_text
from tokenctl.audit_rules import ISSUED, MAX_LIFE_MS, MEANING, TOLERANCE, Fact, Finding, Log, Stored, judge
from tokenctl.deployment import LOCAL_STAGE, Deployment
from tokenctl.errors import DeploymentError
from tokenctl.terminal import Instant, Terminal, clock, common, plain, table
from tokenctl.trail import open_trail

_STDIN: Final = "-"
_GZIP: Final = b"\x1f\x8b"
_CACHE_KIB: Final = 16_384
_MOST_GAPS: Final = 1_000  # of a kind: a log that begins in the middle has one for each token
_CLOUDWATCH_DELAY: Final = timedelta(minutes=5)
"""After that CloudWatch Logs has an event. Most take seconds."""


@click.command("audit")
@click.argument("files", nargs=-1, metavar="[FILE|FOLDER|-]...")
@click.option("--table", "with_table", is_flag=True, help="Compare FILE with the stage's table, too.")
@click.option(
    "--since",
    type=Instant(),
    help="The log is complete from here on: RFC 3339, or 30m, 2h, 3d ago. Default: FILE's first event; of a stage, 1d.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 3600),
    default=TOLERANCE.total_seconds(),
    show_default=True,
    metavar="SECONDS",
    help="How far the clocks of two events may be apart.",
)
@common
def audit(
    terminal: Terminal, *, files: tuple[str, ...], with_table: bool, since: datetime | None, tolerance: float
) -> None:
    """Check the log against the rules: no use beyond the allowance, after expiry, revocation or lock, or without issue.

    Without FILE it reads the log of the stage, and compares it with the table of tokens. FILE holds JSON lines, plain
    or as CloudWatch Logs, its exports, the failure record and Splunk write them, perhaps with gzip.

    Exit status: 0 the rules hold, 1 there is a breach, 2 something can't be read.
    """
    terminal.failure_status = 2
    deployment = terminal.deployment() if with_table or not files else None
    started = now()
    since = since or (None if files else started - timedelta(days=1))
    report = Report()
    with Events() as events:
        with terminal.progress("Reading events", total=None):
            if files or deployment is None or since is None:
                events.add(_of_files(files, report))
                settled = events.last
            else:
                events.add(_of_stage(deployment, since, report))
                delay = timedelta(seconds=tolerance) if terminal.stage == LOCAL_STAGE else _CLOUDWATCH_DELAY
                settled = epoch_ms(started - delay)
        read_at = None
        if deployment is not None:
            read_at = epoch_ms(now())
            events.add_stored(terminal.tracked(deployment.token_store().all(), "Reading tokens"))
        begin, life = epoch_ms(since) if since else events.first, events.longest_life or MAX_LIFE_MS
        log = Log(begin, settled, round(tolerance * 1000), read_at, life)
        report.events = events.count
        for token_id, facts, in_table in events.by_token():
            report.tokens += bool(facts)
            for finding in judge(token_id, facts, in_table, log):
                report.add(finding)
    terminal.show(report.facts(), report.show)
    if report.breaches:
        raise SystemExit(1)
    if report.counts["unreadable"]:
        raise SystemExit(2)


class Events:
    """Events and stored tokens, by token, in a temporary database that ends with this object.

    Attributes:
        count: how many events there are, repeated ones included.
        first: the instant of the first event in milliseconds.
        last: that of the last.
        longest_life: from an issue to its expiry in milliseconds; 0 if no issue names one.
    """

    def __init__(self) -> None:
        self.count = self.last = self.longest_life = 0
        self.first = epoch_ms(datetime.max.replace(tzinfo=UTC))
        self._database = sqlite3.connect("", isolation_level=None)
        for text in (
            *("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", f"PRAGMA cache_size = -{_CACHE_KIB}"),
            "CREATE TABLE rows (token TEXT, is_stored INTEGER, content BLOB)",
        ):
            self._database.execute(text)

    def __enter__(self) -> Events:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._database.close()
        if isinstance(error, sqlite3.Error):
            raise DeploymentError(f"temporary database: {error}; TMPDIR names a folder with more space") from None

    def add(self, found: Iterable[Found]) -> None:
        """Add events."""
        self._insert(self._rows(found))

    def add_stored(self, tokens: Iterable[Token]) -> None:
        """Add tokens of the table."""
        encode = msgspec.msgpack.Encoder().encode
        self._insert((token.id, 1, encode(stored(token))) for token in tokens)

    def by_token(self) -> Iterator[tuple[str, list[Fact], Stored | None]]:
        """Return each token's id, its events without repetitions, and what the table has of it."""
        fact_of = msgspec.msgpack.Decoder(Fact).decode
        stored_of = msgspec.msgpack.Decoder(Stored).decode
        rows = self._database.execute("SELECT token, is_stored, content FROM rows ORDER BY token")
        for token_id, group in groupby(rows, itemgetter(0)):
            facts: set[bytes] = set()
            in_table = None
            for _, is_stored, content in group:
                if is_stored:
                    in_table = stored_of(content)
                else:
                    facts.add(content)
            yield token_id, list(map(fact_of, facts)), in_table

    def _rows(self, found: Iterable[Found]) -> Iterator[tuple[str, int, bytes]]:
        encode = msgspec.msgpack.Encoder().encode
        first, last = self.first, self.last
        for token_id, fact in found:
            self.count += 1
            if fact is not None:
                first = min(first, fact.at)
                last = max(last, fact.at)
                if fact.expires_at is not None:
                    self.longest_life = max(self.longest_life, fact.expires_at - fact.at)
                yield token_id, 0, encode(fact)
        self.first, self.last = first, last

    def _insert(self, rows: Iterable[tuple[str, int, bytes]]) -> None:
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO rows VALUES (?, ?, ?)", rows)
        self._database.execute("COMMIT")


class Report:
    """What was found."""

    def __init__(self) -> None:
        self.events = self.tokens = 0
        self.breaches: list[Finding] = []
        self.gaps: list[Finding] = []
        self.counts: Counter[str] = Counter()

    def add(self, finding: Finding) -> None:
        self.counts[finding.kind] += 1
        if not finding.is_gap:
            self.breaches.append(finding)
        elif self.counts[finding.kind] <= _MOST_GAPS:
            self.gaps.append(finding)

    def damaged(self, name: str, why: str) -> None:
        """Add a gap where something can't be read."""
        self.add(Finding(kind="unreadable", why=f"{name}: {why}"))

    def facts(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        gaps = sorted(self.gaps, key=_time)
        for kind in {gap.kind for gap in gaps}:
            if (unlisted := self.counts[kind] - _MOST_GAPS) > 0:
                gaps.append(Finding(kind=kind, why=f"{unlisted:,} more of this kind"))
        breaches = sorted(self.breaches, key=_time)
        facts = {"events": self.events, "tokens": self.tokens, "breaches": breaches, "gaps": gaps}
        return dict(msgspec.to_builtins(facts))

    def show(self, console: Console) -> None:
        facts = self.facts()
        if self.breaches:
            verdict = plain(f"Breaches: {len(self.breaches):,}.", "bold red")
        elif self.counts["unreadable"]:
            verdict = plain("In what could be read, the rules hold.", "bold yellow")
        else:
            verdict = plain("The rules hold.", "bold green")
        console.print(f"Events: {self.events:,}. Tokens: {self.tokens:,}.", verdict)
        for title, style, rows in (("breach", "red", facts["breaches"]), ("gap", "yellow", facts["gaps"])):
            if rows:
                cells = [
                    (
                        plain(row["kind"], style),
                        clock(row.get("time", "")),
                        *(row.get(name, "") for name in ("tokenId", "useId", "why")),
                    )
                    for row in rows
                ]
                console.print("", table((title, "time (UTC)", "token", "use", "why"), cells), sep="\n")
        if self.counts:
            meanings = [(kind, f"{count:,}", MEANING[kind]) for kind, count in self.counts.most_common()]
            console.print("", table(("kind", "times", "meaning"), meanings), sep="\n")


def _time(finding: Finding) -> str:
    return finding.time or ""


def stored(token: Token) -> Stored:
    """Return what the rules need of a token in the table."""
    terms = token.terms
    issue = Fact(
        ISSUED,
        epoch_ms(token.issued_at),
        user=terms.user,
        max_uses=terms.max_uses,
        expires_at=epoch_ms(terms.expires_at),
        not_before=None if terms.not_before is None else epoch_ms(terms.not_before),
        actions=tuple(terms.actions),
        networks=tuple(map(str, terms.networks)),
        audience=tuple(terms.audience),
    )
    return Stored(issue, {claim.id: epoch_ms(claim.at) for claim in token.claims})


def _of_stage(deployment: Deployment, since: datetime, report: Report) -> Iterator[Found]:
    trail = open_trail(deployment)
    for line in trail.lines("tokenId", since):
        for token_id, fact in read_text(line, partial(report.damaged, trail.place)):
            if fact is None or fact.at >= epoch_ms(since):
                yield token_id, fact


def _of_files(names: Iterable[str], report: Report) -> Iterator[Found]:
    for name in names:
        paths = sorted(path for path in Path(name).rglob("*") if path.is_file()) if Path(name).is_dir() else [name]
        for path in map(str, paths):
            damaged = partial(report.damaged, path)
            try:
                with _opened(path) as file:
                    yield from read(file, damaged)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                damaged(f"damaged gzip: {error}")


@contextmanager
def _opened(path: str) -> Iterator[io.BufferedIOBase]:
    """Open a file, or standard input, with its gzip taken off."""
    raw: Any = sys.stdin.buffer if path == _STDIN else Path(path).open("rb")  # noqa: SIM115 - closed below
    with io.BufferedReader(raw) as file:
        yield gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == _GZIP else file
