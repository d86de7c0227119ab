"""The commands of `twoview`, one file each. Only the file of the command that was given is imported.

The function `run` of a file is the command: its docstring is the help, and its parameters are the options.
"""
