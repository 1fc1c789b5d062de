"""What ``bursar`` does on the command line: one module a command, imported when it is asked for.

Exit codes: 0 done, 1 the thing asked about is not so, 2 misuse or invalid configuration.
"""
