//! The training half of DreamerV3: decoder, heads, losses, imagination, returns.

mod actor_critic;
mod context;
mod decoder;
mod heads;
mod imagine;
mod losses;
mod model;
mod normalize;
mod report;
mod returns;

pub(crate) use context::last_actions;
pub use context::{Carry, Context, split};
pub use decoder::{Decoder, FEATURES_LOSS, Latent, Recon};
pub use heads::{Binary, Value};
pub use losses::{Loss, Metrics, Normalizers, Outputs, Step};
pub use model::Model;
pub use normalize::{Normalize, Stats};
pub use report::{OpenLoop, Prediction};
pub use returns::{Episode, lambda_return};
