"""Quantisation-aware fine-tuning: training that sees the rounding of the INT8 graph.

The trained parameters are trained further, through the export form that is made of them in every
step and with every place rounded that the recipe quantises. What comes out is a checkpoint like
any other, and the Q/DQ graph that computes just what was trained.
"""
