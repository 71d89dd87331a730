//! Tells receivers outside what happened: webhooks, ntfy, mail.
//!
//! The event log is the source: what is to be told is read from it and put into an outbox in one transaction, so that
//! nothing is lost between the two. Each receiver has a task of its own, so that one that hangs holds up no other, and
//! nothing here is ever waited for by a run. A message may arrive twice (the receiver took it, the coordinator died); it
//! has the same number then.

mod delivery;
mod mail;
mod message;
mod ntfy;
mod outbox;
pub mod receiver;
mod template;
mod trigger;
mod webhook;

pub use delivery::DeliveryError;
pub use outbox::Notifier;
