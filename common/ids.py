"""The formats of our ids. Clients send ids back in URLs and we build Redis keys from them, so each is checked first."""

from __future__ import annotations

import re

UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
FILE_ID = f"file-{UUID}(-output|-errors|-results)?"
BATCH_ID = f"batch_{UUID}"
SHA256 = "[0-9a-f]{64}"
RESPONSE_ID = f"resp_{UUID}"
CONVERSATION_ID = f"conv_{UUID}"
MESSAGE_ID = f"msg_{UUID}"
RESPONSE_ITEM_ID = f"(msg|fc|fco)_{UUID}_[0-9]{{1,9}}"
FINE_TUNING_ID = f"ftjob-{UUID}"
FINE_TUNING_EVENT_ID = f"ftevent-{UUID}-[0-9]{{1,9}}"
FINE_TUNING_CHECKPOINT_ID = f"ftckpt-{UUID}-[0-9]{{1,9}}"


def has_form(text: str, form: str) -> bool:
    """Return whether the whole text matches that format."""
    return re.fullmatch(form, text) is not None
