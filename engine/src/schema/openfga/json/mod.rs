//! The JSON form of OpenFGA models, as its API writes and takes it, read into a [`Model`](super::model::Model).

mod condition;
mod model;
pub(super) mod reader;
mod relation;
mod tree;

pub(super) use self::model::{read, version};
pub(super) use self::reader::{decoded_offset, parse};
pub(super) use self::tree::{Json, Kind};
