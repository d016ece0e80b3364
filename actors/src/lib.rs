//! One supervised actor per active vault, the registry that runs them, and the auth actor.
