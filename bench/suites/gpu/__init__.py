"""`twoview suite gpu`: what one card does with this code, most valuable first, beside its targets."""
