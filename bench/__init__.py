"""recipe -> evidence: the command line, recipes, suites, clocks, memory, environment, peers."""
