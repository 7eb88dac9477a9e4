"""What a team sees of its pools."""
