//! Evaluation of checks: stepped by its caller, who supplies the rows it demands.
