"""The configuration: the options of the TOML file and the environment.

In: a file, environment variables, secret files.
Out: a checked `Config`, or all mistakes with their places.
"""
