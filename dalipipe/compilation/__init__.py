"""Functions compiled by Numba: the one decorator, and the one place where what Numba made of them is kept.

Numba's own cache is stamped with the one file that defines a function, though the code of others is inlined. Here
what is kept is named by everything that went into it (`dalipipe.compilation.content`), so that an edit, an upgrade or
another version of Numba is a new name: nothing that was compiled from something else is ever loaded.
"""

from dalipipe.compilation.decorators import callback, compiled
from dalipipe.compilation.pointers import address_as_void_pointer
from dalipipe.compilation.wait import seconds

__all__ = ["address_as_void_pointer", "callback", "compiled", "seconds"]
