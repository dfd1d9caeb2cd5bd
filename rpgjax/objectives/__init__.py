"""Loss terms as pure functions. Time is the leading axis, any batch axes follow."""
