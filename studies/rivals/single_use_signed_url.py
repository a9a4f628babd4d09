"""aws-samples/single-use-signed-url, `CloudFrontViewRequest.js`: reads the key, deletes it, lets the caller in."""

from __future__ import annotations

from studies.rivals.table import Rival


class SingleUseSignedUrl(Rival):
    """The delete has no condition: it succeeds for everybody who has read the key."""

    name = "AWS sample single-use-signed-url"

    def use(self, link: str, key: str) -> bool:
        if self._read(link) is None:
            return False
        self._delete(link)
        return True
