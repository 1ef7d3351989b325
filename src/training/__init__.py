"""Recipes, runs and their folders."""

from src.config.targets import ConfigError
from src.training.recipe import Recipe, load_recipe
from src.training.run import Result, train

__all__ = ["ConfigError", "Recipe", "Result", "load_recipe", "train"]
