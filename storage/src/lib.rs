//! An ordered transactional key-value trait with its engines, and the layer that keeps vaults on it.
