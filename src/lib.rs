//! The InferaDB server: its HTTP surface, command line, configuration and telemetry.

pub mod cli;
pub mod config;
pub mod dev;
pub mod http;
pub mod server;
pub mod telemetry;
