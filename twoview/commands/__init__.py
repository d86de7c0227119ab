"""Each command of `twoview` in a file of its name, which alone is imported when the command is given.

Its function `run` is the command: the docstring is the help, the parameters are the options.
"""
