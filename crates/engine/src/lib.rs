//! What works on the ledger: reading and writing its files, the meta role that is its one writer, calls between
//! processes, and what every other process is to the meta role.

// Tables of the query engine over data files.
pub mod scan;
// Rows become data files.
pub mod write;
// Files of a table become fewer and larger ones.
pub mod compaction;
// The single writer of the truth.
pub mod meta;
// gRPC between the roles.
pub mod rpc;
// What every process other than the meta role is to it: it follows, pins and asks for writes.
pub mod worker;
// The compactor role.
pub mod compactor;
