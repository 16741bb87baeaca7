"""The command line of wmkit: one file a command, each a typed dataclass and a `run` that calls the library."""
