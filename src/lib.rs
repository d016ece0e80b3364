//! The InferaDB server: its HTTP surface, command line, configuration and telemetry.

pub mod cli;
pub mod config;
pub mod context;
pub mod dev;
pub mod http;
mod lag;
pub mod notation;
mod origin;
pub mod schema_test;
pub mod server;
pub mod telemetry;
mod waiting;
