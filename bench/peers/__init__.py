"""The same work done by what a user would pick instead, each in a process of its own, in turn with ours."""
