"""What bytes are, in words, where they are no picture that can be read."""

_KINDS = (
    (b"\0\0\0", "zeros"),
    (b"version https://git-lfs", "a pointer of Git LFS (run git lfs pull)"),
    (b"%PDF", "a PDF"),
    (b"PK", "a ZIP archive, or a document of that kind"),
    (b"\x1f\x8b", "gzip-compressed bytes"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"II*\0", "a TIFF or camera raw file of a kind that is not known"),
    (b"MM\0*", "a TIFF or camera raw file of a kind that is not known"),
    (b"\xff\xd8", "the beginning of a JPEG"),
    (b"\x89PNG", "the beginning of a PNG"),
    (b"8BPS", "a Photoshop document"),
    (b"\0asm", "a program"),
    (b"\x7fELF", "a program"),
)
_BRANDS = {b"hei": "HEIC (pip install pillow-heif)", b"mif1": "HEIC (pip install pillow-heif)", b"avi": "AVIF"}


def kind_of(data: bytes) -> str:
    """The first bytes of a file, or all of them -> what they are of."""
    if not data:
        return "no bytes at all"
    if data[4:8] == b"ftyp":
        return next((word for brand, word in _BRANDS.items() if data[8:].startswith(brand)), "a video")
    for mark, word in _KINDS:
        if data.startswith(mark) and (word != "zeros" or not data.strip(b"\0")):
            return word
    text = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page (HTML)"
    if text.startswith((b"<?xml", b"<svg")):
        return "XML or SVG"
    return "text" if _is_text(data[:512]) else "bytes of no known kind"


def _is_text(data: bytes) -> bool:
    return not set(data) & (set(range(32)) - {9, 10, 12, 13, 27})
