"""Is it slower, larger, worse? Old beside new, by records, in turn, or in a user's tests."""
