"""How cost grows with the image and the batch."""
