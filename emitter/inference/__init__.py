"""From a movie to a table with a trained network."""
