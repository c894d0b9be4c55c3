"""Which files DALI decodes, and which are Pillow's: one table, from which the page of differences is made.

DALI gets what it is known to decode exactly as Pillow does. `look` finds the row of a file in its first bytes.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Form(NamedTuple):
    """A kind of file.

    Attributes:
        what: What the files of this kind are.
        dali: Whether DALI decodes them; else Pillow does, in DALI's threads.
        why: Why they go where they go.
    """

    what: str
    dali: bool
    why: str


(
    OTHER,
    JPEG,
    PROGRESSIVE,
    JPEG_INK,
    JPEG_DEEP,
    JPEG_CODING,
    JPEG_SCANS,
    JPEG_ODD,
    PNG,
    PNG_DEEP,
    PNG_MOVES,
    PNG_PROFILE,
    PNG_ODD,
    WEBP,
    WEBP_MORE,
    WEBP_ODD,
    BMP,
    BMP_MORE,
    PNM,
    PNM_MORE,
    TIFF,
    LARGE,
) = range(22)

FORMS: Final[dict[int, Form]] = {
    JPEG: Form("JPEG, baseline, 8 bits: grey, YCbCr, RGB", True, "the same library: equal, a window of it too"),
    PROGRESSIVE: Form("JPEG, progressive, 8 bits: grey, YCbCr, RGB", True, "the same library: equal"),
    JPEG_INK: Form("JPEG in CMYK, YCCK, or of two channels", False, "DALI makes RGB of inks up to a level otherwise"),
    JPEG_DEEP: Form("JPEG of 12 bits", False, "DALI has no decoder for it"),
    JPEG_CODING: Form(
        "JPEG, arithmetic, lossless, hierarchical, or of extended tables", False, "DALI isn't proven on it"
    ),
    JPEG_SCANS: Form(
        "JPEG whose channels come one by one, or whose scans never complete it, or sampled in an unusual way",
        False,
        "a window of it would be smoothed in another way than the whole",
    ),
    JPEG_ODD: Form(
        "JPEG without its end, or with a segment that is out of order",
        False,
        "whether DALI finds the damage depends on the window",
    ),
    PNG: Form("PNG of up to 8 bits a channel, alpha or not", True, "equal; alpha is dropped"),
    PNG_DEEP: Form("PNG of 16 bits a channel", False, "DALI keeps the upper 8 bits, Pillow does not"),
    PNG_MOVES: Form("animated PNG", False, "which picture comes first differs"),
    PNG_PROFILE: Form(
        "PNG with a colour profile or compressed text",
        False,
        "libpng complains of many on the terminal, and forgives what Pillow doesn't; no profile is applied",
    ),
    PNG_ODD: Form("PNG with a chunk that is damaged or out of order", False, "libpng forgives what Pillow doesn't"),
    WEBP: Form("WebP in its simple form, lossy or lossless", True, "the same library: equal"),
    WEBP_MORE: Form(
        "WebP in its extended form: animated, lossy with alpha, with Exif or a profile", False, "DALI doesn't read it"
    ),
    WEBP_ODD: Form("WebP with bytes too few or too many", False, "DALI reads on where Pillow stops"),
    BMP: Form("BMP of 24 bits, or 8 with a palette", True, "equal"),
    BMP_MORE: Form(
        "BMP of other depths, compressed, or with an old or a long header",
        False,
        "5-5-5, RGB32, masks and palettes come out otherwise",
    ),
    PNM: Form("PPM and PGM, binary, maximum 255, no comment", True, "equal"),
    PNM_MORE: Form(
        "PNM as text, black and white, with a comment or another maximum", False, "DALI doesn't scale its levels"
    ),
    TIFF: Form(
        "TIFF",
        False,
        "planar, CMYK, YCbCr, Lab and float ones come out otherwise; Pillow turns it as its own tag says",
    ),
    LARGE: Form("an image of more px or samples than the limit", False, "it is refused, with its size"),
    OTHER: Form(
        "anything else: GIF, JPEG 2000, AVIF where Pillow has it, and whatever the file's ending promises",
        False,
        "read where Pillow reads it",
    ),
}
"""Every kind of file, in the order of the page."""


def reader(form: int) -> str:
    """Return who decodes files of a form: "DALI" or "Pillow"."""
    return "DALI" if FORMS[form].dali else "Pillow"
