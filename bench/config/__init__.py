"""Recipes: their schema, their search spaces, and what is built from them on this machine."""
