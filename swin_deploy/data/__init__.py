"""Images: photos, lists, arrays and seeded noise, as the tensors that networks take.

In comes whatever a user names as images; out come normalised tensors, (b, c, h, w) float32, one at
a time where there are many, with their labels where they have some.
Here stands what opens, samples or names images. What is done with them is said elsewhere.
"""
