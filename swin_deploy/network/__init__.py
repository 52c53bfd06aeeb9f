"""What a network is: as plain data, as eager PyTorch, as a checkpoint, and in the form for export.

In comes a variant, a config or a checkpoint of any library; out comes an eager model, the reference
of everything later, and its export form with the same outputs.
At the top of the room there is plain data: shapes, ends, preprocessing, and ``judge``, which says
how far two outputs may be apart. What needs PyTorch stands in the folders below.
"""
