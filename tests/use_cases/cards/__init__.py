"""Character cards made for these tests, and the files that carry such cards."""

from __future__ import annotations

import base64
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def card(name: str) -> dict[str, Any]:
    """A card of this folder."""
    held: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return held


def encoded(data: bytes) -> str:
    """A file as a request carries it."""
    return base64.b64encode(data).decode()


def packed(held: Any) -> bytes:
    """A card as it stands in a text chunk."""
    return base64.b64encode(json.dumps(held).encode())


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def text_chunk(name: bytes, text: bytes) -> bytes:
    return chunk(b"tEXt", name + b"\0" + text)


def compressed_chunk(name: bytes, text: bytes) -> bytes:
    return chunk(b"zTXt", name + b"\0\0" + zlib.compress(text))


def international_chunk(name: bytes, text: bytes, *, is_compressed: bool) -> bytes:
    flags = b"\1\0" if is_compressed else b"\0\0"
    return chunk(b"iTXt", name + b"\0" + flags + b"en\0\0" + (zlib.compress(text) if is_compressed else text))


def png(*chunks: bytes) -> bytes:
    """A picture of one pixel with these chunks in it."""
    header = chunk(b"IHDR", b"\0\0\0\1\0\0\0\1\x08\0\0\0\0")
    pixel = chunk(b"IDAT", zlib.compress(b"\0\0"))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixel + chunk(b"IEND", b"")


def charx(files: dict[str, bytes]) -> bytes:
    """A CHARX file."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return held.getvalue()
