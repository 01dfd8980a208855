"""The suite format: text in (`reader.read_suite`), a checked `suite.Suite` out, or every fault with its place."""
