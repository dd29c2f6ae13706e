"""The optimizer and what surrounds it; everything works on the flat buffers of a `ParamStore`."""
