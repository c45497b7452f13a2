"""The secrets of webhooks, and what is sent with them."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from datetime import datetime

from service.domain.webhooks import SECRET_PREFIX, signature
from service.vault import Secret

SECRET_BYTES = 32
MEDIA_TYPE = "application/cloudevents+json"


def new_secret() -> Secret:
    """`whsec_` and 32 random bytes in base64, as Standard Webhooks writes them."""
    return Secret(SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())


def signed(keys: Iterable[str], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The headers of one attempt. The time is the attempt's, as receivers refuse what is old."""
    stamp = int(at.timestamp())
    return {
        "Content-Type": MEDIA_TYPE,
        "webhook-id": message_id,
        "webhook-timestamp": str(stamp),
        "webhook-signature": signature(keys, message_id, stamp, body),
    }
