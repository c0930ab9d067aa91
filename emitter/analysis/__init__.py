"""What is done with a table after localization; pure functions over ``EmitterTable``."""
