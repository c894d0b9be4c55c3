"""For people: contact sheets of what a recipe makes, and the worst differences that parity found."""

from dalipipe.pictures.canvas import require_form, save
from dalipipe.pictures.comparison import draw_worst
from dalipipe.pictures.contact_sheet import preview
from dalipipe.pictures.epochs import augmented

__all__ = ["augmented", "draw_worst", "preview", "require_form", "save"]
