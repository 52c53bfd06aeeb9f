"""The same function in the form that compilers fuse.

The eager network rolls, cuts and joins the token grid in every block. Everything in a block but
attention treats each token alone, so here the tokens stay in the window order of the block at hand
and one constant permutation leads from each order to the next. The stream has the token-in-window
axis slowest, (n * k, b, c): that is how fused attention kernels read it. Masks, position biases and
the query scale are constants. ``forms`` has the forms of attention, ``choice`` the table of which
one is exported when. ``swin_deploy.model`` has the legend of the axis letters.
"""
