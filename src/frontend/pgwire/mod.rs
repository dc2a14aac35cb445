//! The PostgreSQL wire protocol: connections, queries, values in and out.

mod cancel;
mod connection;
pub mod copy_text;
mod departure;
pub mod encode;
mod extended;
pub mod limits;
pub mod params;
mod respond;
mod server;
mod shared;
mod simple;
pub mod sqlstate;
pub mod types;

pub use server::{SqlServer, serve};
