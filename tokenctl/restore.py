"""`tokenctl restore`: copy the items of a restored table into the stage's own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final

import click
from rich.console import Console

from chalicelib.audit import timestamp
from chalicelib.instants import now
from chalicelib.storage.model import INSTANT
from tokenctl.deployment import Deployment
from tokenctl.errors import DeploymentError, unless
from tokenctl.tables import TTL_ATTRIBUTE
from tokenctl.terminal import Terminal, common, plain

_WORKERS: Final = 8
_RETRIES: Final = 10  # a table that has just been made takes some thousand writes a second, and refuses more
_MARGIN: Final = timedelta(minutes=1)  # what clocks may differ by

COPIED: Final = "copied"
THERE: Final = "there"
EXPIRED: Final = "expired"
USABLE: Final = "usable"


@dataclass(frozen=True, slots=True)
class Copy:
    """From which table to which, and what makes an item.

    Attributes:
        key: the partition key of both.
        issued_after: TOKENS_ISSUED_AFTER; None: not set, or not for this table.
    """

    source: str
    target: str
    key: str
    issued_after: datetime | None = None

    @property
    def is_of_tokens(self) -> bool:
        return self.key == "id"


@click.command("restore")
@click.argument("source", metavar="TABLE")
@click.option("--dry-run", is_flag=True, help="Count what would be copied. Nothing is written.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def restore(terminal: Terminal, source: str, dry_run: bool, yes: bool) -> None:
    """Copy the items of TABLE, which a backup was restored to, into the stage's table of tokens or of clients.

    An item that the stage has already stays as it is, so no use, revocation or lock since the backup is undone. What
    ends half-way is run again: it goes on with what is missing. docs/restore.md has the steps before and after it.
    """
    deployment = terminal.deployment()
    dynamodb = deployment.aws("dynamodb", retries=_RETRIES)
    copy, about = _open(deployment, dynamodb, source)
    if not (dry_run or yes):
        terminal.confirm(f"Copy what is missing in {copy.target} from {source}?")
    with terminal.progress("Comparing" if dry_run else "Copying", total=about) as advance:
        counts = run(copy, dynamodb, now(), advance, dry_run=dry_run)
    names = (COPIED, THERE, EXPIRED, *((USABLE,) if copy.is_of_tokens else ()))
    facts = {"source": source, "table": copy.target, "dryRun": dry_run, **{name: counts[name] for name in names}}
    terminal.show(facts, lambda console: _show(console, copy, counts, dry_run))


def run(
    copy: Copy, dynamodb: Any, instant: datetime, advance: Callable[[], object] = lambda: None, *, dry_run: bool = False
) -> Counter[str]:
    """Copy each item that the target lacks.

    Args:
        dynamodb: a client of boto3.
        instant: items whose time to be deleted came before it are left out.
        advance: called after each item, by several threads.

    Returns:
        Items by what became of them: copied (would be, on a dry run), there already, expired; and usable, the copied
        tokens that TOKENS_ISSUED_AFTER does not refuse.
    """
    stopped = threading.Event()

    def copy_segment(segment: int) -> Counter[str]:
        counts: Counter[str] = Counter()
        pages = dynamodb.get_paginator("scan").paginate(
            TableName=copy.source, ConsistentRead=True, Segment=segment, TotalSegments=_WORKERS
        )
        for item in chain.from_iterable(page["Items"] for page in pages):
            if stopped.is_set():
                break
            fate = _copy_item(copy, dynamodb, item, instant, dry_run=dry_run)
            counts[fate] += 1
            counts[USABLE] += copy.is_of_tokens and fate == COPIED and _is_usable(copy, item, instant)
            advance()
        return counts

    with ThreadPoolExecutor(_WORKERS) as pool:
        try:
            return sum(pool.map(copy_segment, range(_WORKERS)), Counter())
        except BaseException:
            stopped.set()  # the others end, too
            raise


def _copy_item(copy: Copy, dynamodb: Any, item: Mapping[str, Any], instant: datetime, *, dry_run: bool) -> str:
    if TTL_ATTRIBUTE in item and _instant(item[TTL_ATTRIBUTE]) <= instant:
        return EXPIRED
    if dry_run:
        found = dynamodb.get_item(
            TableName=copy.target, Key={copy.key: item[copy.key]}, ConsistentRead=True, ProjectionExpression=copy.key
        )
        return THERE if "Item" in found else COPIED
    condition = {"ConditionExpression": f"attribute_not_exists({copy.key})"}
    put = unless("ConditionalCheckFailedException", dynamodb.put_item, TableName=copy.target, Item=item, **condition)
    return THERE if put is None else COPIED


def _is_usable(copy: Copy, item: Mapping[str, Any], instant: datetime) -> bool:
    """Whether it is a token that may be used again. What its item says of uses and revocations is too old to count."""
    if "issued_at" not in item or _instant(item["expires_at"]) <= instant:
        return False
    return copy.issued_after is None or _instant(item["issued_at"]) >= copy.issued_after


def _instant(attribute: Mapping[str, str]) -> datetime:
    return INSTANT.deserialize(attribute["N"])


def _open(deployment: Deployment, dynamodb: Any, source: str) -> tuple[Copy, int | None]:
    """What is to be copied, and about how many items.

    Raises:
        DeploymentError: one of the two tables is not there, not ready, or not of that kind.
    """
    settings = deployment.settings
    described = _describe(dynamodb, source, "is its name right, and the region?")
    key = described["KeySchema"][0]["AttributeName"]
    targets = {"id": settings.token_table, "client_id": settings.client_table}
    if len(described["KeySchema"]) != 1 or key not in targets:
        raise DeploymentError(f"table {source} has neither tokens nor clients: its key is {key!r}")
    if source == targets[key]:
        raise DeploymentError(f"table {source} is the stage's own; name the one that the backup was restored to")
    _describe(dynamodb, targets[key], f"'tokenctl tables create --stage {deployment.stage}' makes it")
    issued_after = settings.tokens_issued_after if key == "id" else None
    return Copy(source, targets[key], key, issued_after), described.get("ItemCount") or None


def _describe(dynamodb: Any, table: str, advice: str) -> dict[str, Any]:
    found = unless("ResourceNotFoundException", dynamodb.describe_table, TableName=table)
    if found is None:
        raise DeploymentError(f"there is no table {table}: {advice}")
    described: dict[str, Any] = found["Table"]
    if described["TableStatus"] not in ("ACTIVE", "UPDATING"):
        raise DeploymentError(f"table {table} is not ready ({described['TableStatus']}): try again when it is")
    return described


def _show(console: Console, copy: Copy, counts: Mapping[str, int], dry_run: bool) -> None:
    done = "would be copied" if dry_run else "copied"
    console.print(plain(f"{copy.source} to {copy.target}: {counts[COPIED]:,} items {done}."))
    console.print(f"Already there, and left as they are: {counts[THERE]:,}. Expired long ago: {counts[EXPIRED]:,}.")
    if not counts[COPIED]:
        return
    if not copy.is_of_tokens:
        note = (
            "Their secrets and states are those of the backup. Before calls come in, rotate each secret with\n"
            "'tokenctl client rotate NAME --overlap 0', and disable again who was disabled since."
        )
    elif counts[USABLE]:
        watermark = timestamp(now() + _MARGIN)
        note = (
            f"{counts[USABLE]:,} copied tokens can be used again, those that were spent or revoked since included.\n"
            f"Before calls come in, set TOKENS_ISSUED_AFTER to {watermark} or later, and deploy: docs/restore.md."
        )
    else:
        note = "No copied token can be used again, once the TOKENS_ISSUED_AFTER of .chalice/config.json is deployed."
    console.print(plain(note, "bold"))
