"""The HTTP side of the service: who may ask what, how much, and what is answered."""
