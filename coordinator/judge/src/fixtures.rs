//! Machines and runs for the tests.
