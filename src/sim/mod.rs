//! A cluster in one thread, on virtual time: everything that may go wrong does, at random, and can be
//! repeated.
//!
//! The meta role, its backups, restores, compactions and vacuums are the real ones; so are the files that
//! frontends write and scan, and the work of compactors. They run on stores that fail, stall, respond late,
//! leave half an object and flip bits ([`stores`], [`meta_store`]), send each other messages that are lost,
//! doubled and reordered ([`link`]), and end at any call ([`chaos`]). SQL is left out: frontends are driven
//! one level below it ([`frontend`]), where neither threads nor hash tables decide anything.
//!
//! The seed decides everything, including the order of tasks (`ambient::simulated`), so a run can be
//! repeated call by call: its log of events has a hash.
//!
//! The stores record what was durably committed, and the clients what each commit meant ([`model`]). After
//! each step of a program ([`program`]) every epoch that is kept, in the cluster and in every snapshot, is
//! compared with that ([`check`]). An error is always a legal response; a wrong row never is.

mod chaos;
mod check;
mod compactor;
mod contention;
mod files;
mod frontend;
mod job;
mod link;
mod meta_store;
mod model;
mod program;
mod server;
mod stores;
mod tests;
mod world;
