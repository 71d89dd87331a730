//! Which part belongs to which group of a spec.
