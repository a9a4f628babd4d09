"""gtsteffaniak/filebrowser (Quantum): checks the count before it streams a file, and adds one after it."""

from __future__ import annotations

from studies.rivals.table import Rival


class FileBrowserQuantum(Rival):
    """It adds correctly, but whoever comes while the file is on its way passes the check. Here no file takes time."""

    name = "FileBrowser Quantum"

    def use(self, link: str, key: str) -> bool:
        share = self._read(link)
        if share is None or int(share["used"]["N"]) >= int(share["allowed"]["N"]):
            return False
        self._call(
            "UpdateItem",
            Key={"id": {"S": link}},
            UpdateExpression="ADD used :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )
        return True
