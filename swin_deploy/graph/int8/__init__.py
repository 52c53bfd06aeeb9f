"""INT8 as pairs of QuantizeLinear and DequantizeLinear in the graph."""
