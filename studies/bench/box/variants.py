"""What is compared: archives, and the functions in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

OURS: Final = "ours"


@dataclass(frozen=True)
class Archive:
    """One deployment archive.

    Attributes:
        name: its folder below `out/bench/`.
        peer: its folder below `studies/bench/peers/`; None: our own package.
        libraries: its direct dependencies; theirs are added.
        shared: files of `studies/bench/peers/` that lie beside its `app.py`.
        tuned: compiled, botocore's data stripped to DynamoDB's, few authorities. Else as its tool leaves it.
    """

    name: str
    peer: str | None = None
    libraries: tuple[str, ...] = ()
    shared: tuple[str, ...] = ("record.py",)
    tuned: bool = True


@dataclass(frozen=True)
class Variant:
    """One function of an archive, called in one way.

    Attributes:
        name: in results.
        title: in tables and plots.
        calls: `api`: issue and use; `authorizer`; `none`: whatever it answers will do.
    """

    name: str
    title: str
    archive: Archive
    handler: str = "app.app"
    calls: str = "api"
    environ: Mapping[str, str] = field(default_factory=dict)


_WARM: Final = {"WARM": "1"}
_ours = Archive(OURS, shared=())
_over_botocore = Archive("ours-botocore", libraries=("botocore",), shared=())
_libraries = ("aws-lambda-powertools", "boto3")
_powertools = Archive("powertools", "powertools", _libraries, tuned=False)
_powertools_tuned = Archive("powertools-tuned", "powertools", _libraries)

EMPTY: Final = Variant("empty", "empty handler", Archive("empty", "empty", shared=()), calls="none")
FLOOR: Final = Variant("floor", "hand-signed floor", Archive("floor", "floor", shared=("record.py", "sigv4.py")))
SERVICE: Final = Variant("ours", "token service", _ours)
OVER_BOTOCORE: Final = Variant(
    "ours-botocore", "token service over botocore", _over_botocore, environ={"DYNAMODB_TRANSPORT": "botocore"}
)
BOTOCORE: Final = Variant(
    "botocore", "bare botocore, tuned", Archive("botocore", "bare_botocore", ("botocore",)), environ=_WARM
)
STOCK: Final = Variant(
    "chalice-pynamodb",
    "Chalice + PynamoDB, stock",
    Archive("chalice-pynamodb", "chalice_pynamodb", ("pynamodb",), tuned=False),
)
POWERTOOLS: Final = Variant("powertools", "Powertools + boto3, stock", _powertools)
POWERTOOLS_TUNED: Final = Variant("powertools-tuned", "Powertools + boto3, tuned", _powertools_tuned, environ=_WARM)
BARE_AUTHORIZER: Final = Variant(
    "bare-authorizer",
    "bare authorizer",
    Archive("bare-authorizer", "authorizer", shared=("sigv4.py",)),
    calls="authorizer",
)
AUTHORIZER: Final = Variant("authorizer", "token service, authorizer", _ours, "app.basic_auth", "authorizer")

AT_OTHER_SIZES: Final = (EMPTY, FLOOR, SERVICE, BOTOCORE, POWERTOOLS_TUNED, STOCK)
GUARDED: Final = (SERVICE, FLOOR, BOTOCORE, POWERTOOLS_TUNED, STOCK, BARE_AUTHORIZER, AUTHORIZER)
ALL: Final = (
    *(EMPTY, FLOOR, SERVICE, OVER_BOTOCORE, BOTOCORE, POWERTOOLS_TUNED, POWERTOOLS),
    *(STOCK, BARE_AUTHORIZER, AUTHORIZER),
)
