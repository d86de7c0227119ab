"""Is new code slower, larger or less accurate than old?

Compares records, or both versions in turn, or a user's tests.
"""
