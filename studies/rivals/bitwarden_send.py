"""bitwarden/server, `SendAuthorizationService.AccessAsync`: adds one in memory, then replaces the row."""

from __future__ import annotations

from studies.rivals.table import Rival


class BitwardenSend(Rival):
    """Two callers that read the same row both write the same count."""

    name = "Bitwarden Send"

    def use(self, link: str, key: str) -> bool:
        row = self._read(link)
        if row is None or int(row["used"]["N"]) >= int(row["allowed"]["N"]):
            return False
        self._call("PutItem", Item={**row, "used": {"N": str(int(row["used"]["N"]) + 1)}})
        return True
