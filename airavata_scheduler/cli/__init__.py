"""The airavata command."""
