"""Training a network: what is optimised, on which samples, for how long, and what is kept."""
