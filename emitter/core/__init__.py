"""The contracts that everything else stands on: channels, emitters, tables, units, random numbers, errors."""
