//! What a machine is told when it boots from the network. Refuses to know about runs' states: `http` decides which
//! script a machine gets.

pub mod ipxe;
