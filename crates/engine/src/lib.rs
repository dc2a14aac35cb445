//! Works on the ledger: reads and writes its files, runs the meta role (its single writer) and the
//! other roles, and connects them by RPC.

// Query engine tables over data files.
pub mod scan;
// Writes rows to data files.
pub mod write;
// Rewrites the files of a table as fewer and larger ones.
pub mod compaction;
// The meta role: the single writer of the metadata.
pub mod meta;
// gRPC between the roles.
pub mod rpc;
// The client side of a frontend or compactor: follows the meta role, pins versions and asks for writes.
pub mod worker;
// The compactor role.
pub mod compactor;
