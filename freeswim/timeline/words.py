"""Words of people, of metadata and of editors, as XML and other formats can hold them."""

from __future__ import annotations

import json
import re

from freeswim.timeline.cut import JSON

_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_text(text: str) -> str:
    """The text without the characters that XML cannot hold; each is a space."""
    return _NOT_XML.sub(" ", text)


def plain_text(value: JSON) -> str:
    """A value of metadata as a person reads it; lists and the like as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def channel_type(num_channels: int) -> str:
    """As Resolve and Premiere call so many channels; of what they have no common word for, stereo."""
    return {1: "Mono", 6: "5.1"}.get(num_channels, "Stereo")
