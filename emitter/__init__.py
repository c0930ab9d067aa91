"""Single-molecule emitter prediction: from a film of blinking molecules to a table of emitters."""

__version__ = "0.1.0"
