"""Where samples come from: the `Source` protocol, folders, arrays, and their division into train and val."""

from dalipipe.sources.array import ArraySource
from dalipipe.sources.base import Item, Source, SubsetSource, describe, fingerprint, name_of, require_classes
from dalipipe.sources.folder import IMG_EXTENSIONS, FolderSource
from dalipipe.sources.split import split_sources

__all__ = [
    "IMG_EXTENSIONS",
    "ArraySource",
    "FolderSource",
    "Item",
    "Source",
    "SubsetSource",
    "describe",
    "fingerprint",
    "name_of",
    "require_classes",
    "split_sources",
]
