"""The command line: it parses, builds the config, makes one call, and prints."""
