"""Where samples come from: the `Source` protocol, folders, arrays, and their division into train and val."""

from dalipipe.sources.array import ArraySource
from dalipipe.sources.base import (
    Item,
    Source,
    SubsetSource,
    describe,
    fingerprint,
    list_names,
    name_of,
    require_classes,
)
from dalipipe.sources.duplicates import find_shared, require_disjoint
from dalipipe.sources.folder import IMG_EXTENSIONS, FolderSource, index_folder
from dalipipe.sources.mixed import MixedSource
from dalipipe.sources.split import Parts, find_parts, fold_sources, split_sources

__all__ = [
    "IMG_EXTENSIONS",
    "ArraySource",
    "FolderSource",
    "Item",
    "MixedSource",
    "Parts",
    "Source",
    "SubsetSource",
    "describe",
    "find_parts",
    "find_shared",
    "fingerprint",
    "fold_sources",
    "index_folder",
    "list_names",
    "name_of",
    "require_classes",
    "require_disjoint",
    "split_sources",
]
