"""What is done to images: recipes, the ops in them, and torchvision's transforms translated into them.

`reading` takes TOML files apart; `ops` holds the ops, one class each; `recipe` the list of them; `translation` what
torchvision's transforms become.
"""

from dalipipe.recipes.reading import list_recipes, recipes_dir
from dalipipe.recipes.recipe import Levels, Recipe

__all__ = ["Levels", "Recipe", "list_recipes", "recipes_dir"]
