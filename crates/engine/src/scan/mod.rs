//! Reads a table as of an epoch: DataFusion's own Parquet scan over the files alive then.

mod adapter;
mod alive;
mod data_file;
mod inline;
mod key_filters;
mod provider;
mod sought;
mod statistics;

pub use data_file::{DataFile, DataFiles};
pub use key_filters::{KeyFilters, SoughtKeys};
pub use provider::{FILE_COLUMN, Files, POSITION_COLUMN, SstTable};
pub use sought::guarantees;
pub use statistics::StatisticsCache;

#[cfg(test)]
mod tests;
