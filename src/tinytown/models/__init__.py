"""The nouns: their shapes, their states and their moves; pure, no input or output."""
