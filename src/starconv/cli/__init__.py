"""The command line. `starconv COMMAND`: each command is a file here that registers itself with the application."""

from .application import app, main

__all__ = ["app", "main"]
