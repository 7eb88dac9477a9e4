"""What a team sees of its pools: statements as spans, numbers as metrics, a status page. Uses public names only."""
