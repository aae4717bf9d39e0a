//! The part of DreamerV3 that actors run too: encoder, RSSM, policy, and the one step of acting.

mod acting;

pub use acting::{Acted, Acting, Carry};
