"""Measurements of the loader: its speed and the speed required, where its time goes, whether its pixels are right."""
