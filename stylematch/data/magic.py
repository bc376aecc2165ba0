"""Which picture format a file's first bytes announce.

The one place that knows formats by their bytes: finding uses it for files whose names tell nothing, decoding
to choose the one decoder that may see the data. No decoder runs here.
"""

from __future__ import annotations

HEAD_BYTES = 64
"""How many first bytes ``sniff_format`` needs at most."""

READABLE_FORMATS = frozenset({"JPEG", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "HEIF"})
"""The formats that are found and decoded (HEIF with the heic extra)."""

_PREFIXES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"8BPS", "PSD"),
)
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_DIB_HEADER_BYTES = frozenset({40, 52, 56, 64, 108, 124})
_DIB_BITS = frozenset({1, 2, 4, 8, 16, 24, 32})


def sniff_format(head: bytes) -> str | None:
    """Name the picture format that the first bytes of a file announce.

    Parameters
    ----------
    head : bytes
        The file's first bytes, ``HEAD_BYTES`` of them where there are so many.

    Returns
    -------
    str or None
        One of ``READABLE_FORMATS``; or "AVIF", "JPEG 2000", "JPEG XL" or "PSD", which are pictures that
        stylematch does not read; or None for anything else.
    """
    for prefix, name in _PREFIXES:
        if head.startswith(prefix):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    # "BM" alone begins many a text; a bitmap goes on with a known header size.
    if head[:2] == b"BM" and (int.from_bytes(head[14:18], "little") in _DIB_HEADER_BYTES | {12}):
        return "BMP"
    if _is_dib(head):
        return "DIB"
    if head[4:8] == b"ftyp":
        return _sniff_iso_media(head)
    return None


def _is_dib(head: bytes) -> bool:
    """Tell whether the bytes are a bitmap without its file header: size, one plane, a possible depth."""
    return (
        int.from_bytes(head[:4], "little") in _DIB_HEADER_BYTES
        and head[12:14] == b"\x01\x00"
        and int.from_bytes(head[14:16], "little") in _DIB_BITS
    )


def _sniff_iso_media(head: bytes) -> str | None:
    """Tell HEIF from AVIF, which may share the major brand ``mif1``, and both from videos."""
    box_end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[i : i + 4] for i in range(16, box_end - 3, 4))}
    if head[8:12] in _AVIF_BRANDS or (head[8:12] in {b"mif1", b"msf1"} and brands & _AVIF_BRANDS):
        return "AVIF"
    return "HEIF" if head[8:12] in _HEIF_BRANDS else None
