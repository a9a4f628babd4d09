"""nextcloud/files_downloadlimit, `BeforeNodeReadListener`: the last download deletes the share, others count on."""

from __future__ import annotations

from studies.rivals.table import Rival


class NextcloudDownloadLimit(Rival):
    """It counts what it read plus one. If that fails, it logs the error and the download goes on."""

    name = "Nextcloud files_downloadlimit"

    def use(self, link: str, key: str) -> bool:
        share = self._read(link)
        if share is None:
            return False
        downloads = int(share["used"]["N"]) + 1
        if downloads >= int(share["allowed"]["N"]):
            self._delete(link)
        else:
            self._call("PutItem", Item={**share, "used": {"N": str(downloads)}})
        return True
