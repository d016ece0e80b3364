//! Models that compile, what they compile to, and every error at its place.
