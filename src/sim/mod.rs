//! One cluster in one thread, on virtual time: everything that may go wrong does, at random, and can be
//! repeated.
//!
//! The meta role, its backups, restores, compactions and vacuums are the real ones; so are the files that
//! frontends write and scan, and the work of compactors. They run on stores that fail, stall, answer late,
//! leave half an object and flip bits ([`stores`], [`meta_store`]), send each other messages that are lost,
//! doubled and overtake one another ([`link`]), and end at any call ([`chaos`]). SQL is left out: frontends
//! are driven one level below it ([`frontend`]), where neither threads nor hash tables decide anything.
//!
//! The seed decides all of it, the order of tasks included (`ambient::simulated`), so a run can be repeated
//! call by call: its log of events has a hash.
//!
//! What was durably committed is known from the stores, what each commit meant from whoever asked for it
//! ([`model`]). After each step of a program ([`program`]) every epoch that is kept, here and in every
//! snapshot, is compared with that ([`check`]). An error is always a legal answer; a wrong row never is.

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
