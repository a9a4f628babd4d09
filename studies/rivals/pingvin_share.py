"""stonith404/pingvin-share, `ShareService`: compares the views, then stores what it read plus one."""

from __future__ import annotations

from studies.rivals.table import Rival


class PingvinShare(Rival):
    """The update sets a number; it does not add."""

    name = "Pingvin Share"

    def use(self, link: str, key: str) -> bool:
        share = self._read(link)
        if share is None or int(share["used"]["N"]) >= int(share["allowed"]["N"]):
            return False
        self._call(
            "UpdateItem",
            Key={"id": {"S": link}},
            UpdateExpression="SET used = :views",
            ExpressionAttributeValues={":views": {"N": str(int(share["used"]["N"]) + 1)}},
        )
        return True
