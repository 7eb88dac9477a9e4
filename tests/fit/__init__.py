"""It fits where people come from: instrumentations, libraries, other pools."""
