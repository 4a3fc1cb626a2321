"""The configuration: what the TOML file and the environment may say.

In: a file, environment variables, secret files.
Out: a checked `Config`, or every mistake at once with its place.
"""
