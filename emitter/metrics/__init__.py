"""How good predictions are: matching, the challenge's protocol, scores and the Cramér-Rao bound."""
