//! The part of DreamerV3 that actors run too: encoder, RSSM, policy, and the one step of acting.

mod acting;
mod attention;
mod core;
mod encoder;
mod features;
mod in_place;
pub mod inputs;
mod policy;
mod rollout;
mod rssm;
mod scan;

pub use acting::{Acted, Acting, to_array};
pub use attention::AttentionPool;
pub use encoder::{Encoder, Inputs};
pub use features::Standardize;
pub use policy::{Choice, Policy, raw_width};
pub use rollout::{PackedPolicy, PackedRssm, RolloutScratch};
pub use rssm::{Rssm, State};
pub use scan::{Observations, Observed};
