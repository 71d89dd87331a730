//! Who a machine is, as pure functions: is it a registered one, a new one, or must a person look; what a new host is
//! called; what of a machine's words may be shown.
//!
//! Refuses to guess: where what a machine shows speaks for two answers, the answer is a conflict in words.

pub mod recognise;
pub mod uuid;
pub mod words;

#[cfg(test)]
mod tests;
