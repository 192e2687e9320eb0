"""Networks that give a low energy to what is plausible."""
