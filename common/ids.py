"""The forms of the ids that this system gives out. Ids come back in URLs and become Redis keys: nothing else may."""

from __future__ import annotations

import re

UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
FILE_ID = f"file-{UUID}(-output|-errors)?"
BATCH_ID = f"batch_{UUID}"
RESPONSE_ID = f"resp_{UUID}"


def has_form(text: str, form: str) -> bool:
    """Whether all of the text is an id of that form."""
    return re.fullmatch(form, text) is not None
