"""Peers: what users could choose instead of twoview. Each does the same work in its own process, in turn with ours."""
