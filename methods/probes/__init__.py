"""A frozen encoder -> numbers."""
