//! The PostgreSQL wire protocol: connections, queries, and values in both directions.
//!
//! Client input is cut into frames (`framing`), parsed strictly (`message`) and answered in order
//! (`conversation`). pgwire provides the message types, encodes the responses, and stores prepared
//! statements.

mod connection;
mod conversation;
mod descriptors;
mod extended;
mod framing;
mod intake;
mod log_limiter;
mod login;
mod message;
mod prepared;
mod respond;
mod server;
mod shared;
mod simple;
mod socket;
mod startup;

pub use server::{SqlServer, serve};

/// Parses arbitrary client input: startup packets, then messages.
#[cfg(any(test, fuzzing, feature = "testing"))]
pub fn read_untrusted(bytes: &[u8]) {
    let mut framer = framing::Framer::new(intake::Intake::new(1 << 20));
    framer.buffer.extend_from_slice(bytes);
    while let Ok(Some(packet)) = startup::next_packet(&mut framer.buffer, startup::Asked::default())
    {
        if let Ok(startup::Packet::Startup(_)) = packet {
            break;
        }
    }
    while let Ok(Some(received)) = framer.next_frame() {
        if let framing::Received::Frame(frame) = received {
            assert!(frame.body.len() <= bytes.len(), "more than was sent");
            drop(message::Message::read(frame));
        }
    }
}
