"""Recipes: their schema, their search spaces, and what they come to on this machine."""
