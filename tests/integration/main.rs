//! Tests of the real programs with real psql and a real driver.

#![expect(clippy::unwrap_used, reason = "a test panics")]

mod abuse;
mod backup;
mod cancel;
mod cluster;
mod concurrency;
mod copy;
mod copy_data;
mod crash;
mod damage;
mod disk_full;
mod durability;
mod etcd_server;
mod fairness;
mod fuzz;
mod harness;
mod hostile;
mod location;
mod maintenance;
mod memory;
mod model;
mod nesting;
mod promises;
mod protocol;
mod psql;
mod restore;
mod s3;
mod start_stop;
mod time_travel;
mod verify;
mod wire;
