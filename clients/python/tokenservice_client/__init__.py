"""A client of the token service.

```python
client = TokenServiceClient("http://127.0.0.1:8000", "demo", password)
issued = client.issue("f2f42052-6e24-4c54-bc15-1e0bb6dce9f7", max_uses=1)
use = client.use(issued.token, user="alice")  # use.node_id is the document
```
A use has an idempotency key, so that the client can repeat it if the response is lost: it counts once. All errors are
`TokenServiceError`s; see `tokenservice_client.errors`.
"""

from tokenservice_client.answers import Claim, Introspection, Issued, Status, Use, Version
from tokenservice_client.client import TokenServiceClient
from tokenservice_client.errors import (
    FieldError,
    InsufficientScope,
    InternalError,
    InvalidRequest,
    NoAnswer,
    Problem,
    Refused,
    ServiceUnavailable,
    TokenServiceError,
    TooManyRequests,
    Unauthorized,
    UnexpectedAnswer,
    UntrustedServer,
)
from tokenservice_client.terms import Action, Terms

__version__ = "0.2.0"

__all__ = [
    "Action",
    "Claim",
    "FieldError",
    "InsufficientScope",
    "InternalError",
    "Introspection",
    "InvalidRequest",
    "Issued",
    "NoAnswer",
    "Problem",
    "Refused",
    "ServiceUnavailable",
    "Status",
    "Terms",
    "TokenServiceClient",
    "TokenServiceError",
    "TooManyRequests",
    "Unauthorized",
    "UnexpectedAnswer",
    "UntrustedServer",
    "Use",
    "Version",
]
