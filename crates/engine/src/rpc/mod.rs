//! gRPC between the roles. Protobuf types never leave this module.

mod client;
mod convert;
mod dial;
mod jobs;
mod limits;
mod service;

pub use client::{MetaClient, Replica};
pub use dial::LocalMeta;
pub use service::{Served, serve};

#[expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")]
mod proto {
    #![allow(unused_qualifications, clippy::all, clippy::pedantic, missing_docs, unreachable_pub)]
    tonic::include_proto!("tidemark.meta.v1");
}
