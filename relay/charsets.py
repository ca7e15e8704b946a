"""Charsets of mail: octets that call themselves something, as text.

Mail is often labelled wrongly in ways that are known, and those are read as what they are. Codecs of Python that are no charsets
are not used. Never raises: what cannot be read becomes U+FFFD, and the text can always be written as UTF-8.
RFC 2045 §5, RFC 2978; labels as in the WHATWG Encoding standard §4.2 where mail needs it.
"""

from __future__ import annotations

import contextlib
import re
from encodings.aliases import aliases

_ALIASES = {
    "latin_1": "cp1252",  # what calls itself iso-8859-1 is windows-1252 (WHATWG Encoding §4.2)
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
}
_MORE_LABELS = {
    **{name: name for name in ("koi8_u", "koi8_t", "cp737", "cp856", "cp874", "cp875", "cp720", "cp1006")},
    "ks_c_5601_1987": "cp949",
    "windows_874": "cp874",
    "x_sjis": "cp932",
    "x_gbk": "gb18030",
    "iso_8859_8_i": "iso8859_8",
    "cp_850": "cp850",
    "unicode_1_1_utf_7": "utf_7",
}
_NOT_CHARSETS = frozenset({"punycode", "idna", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"})
_BINARY_CODECS = frozenset({"base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec"})
_CODECS = {
    label: codec
    for label, codec in {**aliases, **{codec: codec for codec in aliases.values()}, **_MORE_LABELS}.items()
    if codec not in _NOT_CHARSETS | _BINARY_CODECS
}


def decode(raw: bytes, charset: str, otherwise: str = "") -> str:
    """Text in a declared charset; where none is declared, or none that is known: UTF-8, and if it is not that, `otherwise`,
    and if that is none, windows-1252. What has octets that its charset does not have, and is UTF-8, is read as that; else such
    octets become U+FFFD."""
    codec = _codec(charset)
    for attempt in (codec, "utf-8"):
        if attempt != "ascii":
            with contextlib.suppress(UnicodeDecodeError):
                return _whole_characters(raw.decode(attempt))
    if codec == "ascii":
        second = _codec(otherwise)
        codec = "cp1252" if second in ("ascii", "utf_8") else second
    return _whole_characters(raw.decode(codec, "replace"))


def _codec(charset: str) -> str:
    label = re.sub(r"[^a-z0-9]+", "_", charset[:40].lower()).strip("_")
    codec = _CODECS.get(label, "ascii")
    return _ALIASES.get(codec, codec)


def _whole_characters(text: str) -> str:
    """Without half characters, which UTF-7 and others may leave and no other text can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
