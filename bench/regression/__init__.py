"""Is new code slower, larger or less accurate than old? By their records, measured in turn, or in a user's tests."""
