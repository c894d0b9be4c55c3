"""What is done to images: recipes, the ops in them, and torchvision's transforms translated into them.

`ops` holds the ops, one class each; `recipe` the list of them; `translation` what torchvision's transforms become.
"""

from dalipipe.recipes.recipe import Levels, Recipe, list_recipes, recipes_dir

__all__ = ["Levels", "Recipe", "list_recipes", "recipes_dir"]
