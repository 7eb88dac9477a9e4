"""What every wing needs: the log, locks, the process, places in the callers' code. Imports nothing of the project."""
