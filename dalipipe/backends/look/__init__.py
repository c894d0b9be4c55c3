"""A look at the bytes of an encoded image: which form of `forms` it is; pure, compiled by Numba.

A file is DALI's only where all that Pillow checks of its structure is as it should be, to the last byte of the picture.
So whether a damaged file is bad never depends on the window that is decoded.
"""

from dalipipe.backends.look.form import form_of, is_dalis

__all__ = ["form_of", "is_dalis"]
