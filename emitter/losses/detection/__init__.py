"""Terms of the probability channel, in place of or added to the cross-entropy: one file each."""
