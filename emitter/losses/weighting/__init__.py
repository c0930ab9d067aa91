"""From the parts of six channels to one number: fixed weights, or weights that follow the training."""
