"""How fast the loader is, what is required of it, where its time goes, whether its pixels are right."""
