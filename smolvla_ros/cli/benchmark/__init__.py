"""What ``smolvla-ros bench gate`` is made of."""
