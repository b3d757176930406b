"""The nouns, the seams and the ports: standard library only."""
