"""Finds the character card in the files that carry one: JSON, PNG and CHARX, as text or base64, within bounds.

No library on PyPI was taken: those that read the PNG's chunks know neither iTXt nor CHARX and check no checksum, or
they bring an imaging library along.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import from_json

from shared.fields import invalid

FILE_BYTES = 9_000_000
JSON_BYTES = 4_000_000
# base64 makes four characters of three bytes.
CHUNK_TEXT_BYTES = JSON_BYTES // 3 * 4 + 4
PNG_CHUNKS = 10_000
ZIP_MEMBERS = 2_000

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PNG = b"\x89PNG\r\n\x1a\n"
# How base64 of a PNG, of a zip file and of a JSON object begins.
_ENCODED = ("iVBORw0KGgo", "UEsDB", "eyJ", "ewo", "ew0K", "eyA")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
# Long enough that nobody's name looks like it.
_LEAST_ENCODED_CHARS = 64


def is_file(text: str) -> bool:
    """Whether this text is a file, and not the description of somebody."""
    start = text[:100].lstrip()
    if start.startswith("data:") or re.match(r'\{\s*["}]', start):
        return True
    return start.startswith(_ENCODED) and len(text) >= _LEAST_ENCODED_CHARS and _is_base64(text)


def card_in(text: str, field: str) -> Mapping[str, Any]:
    """The card's JSON object. Raises InvalidRequest that says what is wrong with the file in `field`."""
    start = text[:100].lstrip()
    if start.startswith("{"):
        return _object(text.encode("utf-8", "replace"), field)
    data = _decoded(text.partition(",")[2] if start.startswith("data:") else text, field)
    if len(data) > FILE_BYTES:
        raise invalid(field, f"The file is too large: at most {FILE_BYTES} bytes are accepted")
    if data.startswith(_PNG):
        return _from_png(data, field)
    if data[:100].removeprefix(_BYTE_ORDER_MARK).lstrip().startswith(b"{"):
        return _object(data, field)
    if zipfile.is_zipfile(io.BytesIO(data)):
        return _from_charx(data, field)
    raise invalid(field, "This file is neither JSON nor a PNG nor a CHARX")


def _is_base64(text: str) -> bool:
    return _BASE64.fullmatch("".join(text.split())) is not None


def _decoded(text: str, field: str) -> bytes:
    if not _is_base64(text):
        raise invalid(field, "The file is not valid base64")
    plain = "".join(text.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        raise invalid(field, "The file is not valid base64") from None


def _object(data: bytes, field: str) -> Mapping[str, Any]:
    if len(data) > JSON_BYTES:
        raise invalid(field, f"The card's JSON is too large: at most {JSON_BYTES} bytes are accepted")
    try:
        held = from_json(data.removeprefix(_BYTE_ORDER_MARK), allow_inf_nan=False)
    except ValueError:
        # Also where it is nested too deeply.
        raise invalid(field, "The card is not valid JSON") from None
    if not isinstance(held, dict):
        raise invalid(field, "The card's JSON should be an object")
    return held


def _from_png(data: bytes, field: str) -> Mapping[str, Any]:
    """The V3 card (`ccv3`), else the V2 card (`chara`): base64 of JSON in a text chunk."""
    found: dict[bytes, bytes] = {}
    for kind, body, is_sound in _chunks(data, field):
        name, _, rest = body.partition(b"\0")
        if kind in (b"tEXt", b"zTXt", b"iTXt") and name in (b"ccv3", b"chara") and name not in found:
            if not is_sound:
                raise invalid(field, f"The PNG is damaged: the checksum of its chunk '{name.decode()}' is wrong")
            found[name] = _chunk_text(kind, rest, field)
    for name in (b"ccv3", b"chara"):
        if name in found:
            return _object(_decoded(found[name].decode("latin-1"), field), field)
    raise invalid(field, "The PNG holds no character: it has no text chunk 'ccv3' or 'chara'")


def _chunks(data: bytes, field: str) -> Iterator[tuple[bytes, bytes, bool]]:
    """Kind, body and whether the checksum is right, up to the end of the image or of the data."""
    place = len(_PNG)
    for _ in range(PNG_CHUNKS):
        if place + 12 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        if end + 4 > len(data) or kind == b"IEND":
            return
        body = data[place + 8 : end]
        # Only text is looked at, so only text is checked.
        is_sound = not kind.endswith(b"Xt") or zlib.crc32(kind + body) == int.from_bytes(data[end : end + 4], "big")
        yield kind, body, is_sound
        place = end + 4
    raise invalid(field, f"The PNG has more than {PNG_CHUNKS} chunks")


def _chunk_text(kind: bytes, rest: bytes, field: str) -> bytes:
    if kind == b"tEXt":
        return rest
    if kind == b"zTXt":
        return _inflated(rest[1:], field)
    flags, text = rest[:2], rest[2:].split(b"\0", 2)[-1]
    return _inflated(text, field) if flags[:1] == b"\1" else text


def _inflated(data: bytes, field: str) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, CHUNK_TEXT_BYTES + 1)
    except zlib.error:
        raise invalid(field, "The PNG is damaged: its compressed text cannot be read") from None
    if len(text) > CHUNK_TEXT_BYTES:
        raise invalid(field, f"The card's JSON is too large: at most {JSON_BYTES} bytes are accepted")
    return text


def _from_charx(data: bytes, field: str) -> Mapping[str, Any]:
    """`card.json` at the root of a zip file. What the directory claims about sizes is not believed."""
    # Counted by their signature, before the directory is read into memory.
    if data.count(b"PK\1\2") > ZIP_MEMBERS:
        raise invalid(field, f"The CHARX holds more than {ZIP_MEMBERS} files")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open("card.json") as member:
            text = member.read(JSON_BYTES + 1)
    except KeyError:
        raise invalid(field, "The CHARX holds no card.json") from None
    # The last three: an encrypted member, an unknown compression, an offset that points nowhere.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError):
        raise invalid(field, "The CHARX is damaged or encrypted") from None
    return _object(text, field)
