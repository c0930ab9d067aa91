"""Movies in, tables in and out."""
