//! Recurrent state-space model (official `rssm.py`, RSSM).

use candle_core::{Device, Result, Tensor};

use crate::config::RssmConfig;
use crate::dist::Draws;
use crate::kernels::{Precision, gru, one_hot_sample};
use crate::nn::{BlockLinear, Linear, Mlp, Norm, Style};
use crate::params::{ParamError, Scope};

/// deter [N, deter] and stoch [N, stoch, classes] (one-hot).
#[derive(Clone, Debug)]
pub struct State {
    /// Deterministic recurrent state.
    pub deter: Tensor,
    /// Sampled categorical latents.
    pub stoch: Tensor,
}

impl State {
    /// What heads and policy see: [deter, stoch], [N, deter + stoch * classes].
    pub fn features(&self) -> Result<Tensor> {
        Tensor::cat(&[&self.deter, &self.stoch.flatten_from(1)?], 1)
    }

    /// Zero where `keep` [N, 1] is 0.
    pub fn masked(&self, keep: &Tensor) -> Result<Self> {
        let stoch = self.stoch.broadcast_mul(&keep.unsqueeze(2)?)?;
        Ok(Self { deter: self.deter.broadcast_mul(keep)?, stoch })
    }

    /// The same values on a device.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Self { deter: self.deter.to_device(device)?, stoch: self.stoch.to_device(device)? })
    }

    /// The same values without history.
    pub fn detach(&self) -> Self {
        Self { deter: self.deter.detach(), stoch: self.stoch.detach() }
    }
}

/// Layers and numbers of an RSSM that a packed copy is made from.
pub(super) struct Parts<'a> {
    pub stoch: usize,
    pub classes: usize,
    pub unimix: f32,
    pub precision: Precision,
    pub inputs: &'a [(Linear, Norm); 3],
    pub hidden: &'a [(BlockLinear, Norm)],
    pub gates: &'a BlockLinear,
    pub absolute: bool,
    pub posterior: (&'a Mlp, &'a Linear),
    pub prior: (&'a Mlp, &'a Linear),
}

/// The dynamics: recurrent core, posterior, prior.
pub struct Rssm {
    stoch: usize,
    classes: usize,
    blocks: usize,
    unimix: f32,
    absolute: bool,
    precision: Precision,
    inputs: [(Linear, Norm); 3],
    hidden: Vec<(BlockLinear, Norm)>,
    gates: BlockLinear,
    posterior: Mlp,
    posterior_logits: Linear,
    prior: Mlp,
    prior_logits: Linear,
}

impl Rssm {
    /// Modules below `scope` (`dyn`) for actions of `actions` numbers and tokens of `tokens` numbers.
    pub fn new(
        scope: &Scope,
        c: &RssmConfig,
        precision: Precision,
        actions: usize,
        tokens: usize,
    ) -> std::result::Result<Self, ParamError> {
        let latent = c.stoch * c.classes;
        let style = Style::new(&c.act, &c.norm, &c.winit)?.at(precision);
        let input = |i: usize, width: usize| -> std::result::Result<_, ParamError> {
            let linear = Linear::new(&scope.sub(&format!("dynin{i}")), &style, width, c.hidden, 1.0)?;
            Ok((linear, Norm::new(&scope.sub(&format!("dynin{i}norm")), &style, c.hidden)?))
        };
        let inputs = [input(0, c.deter)?, input(1, latent)?, input(2, actions)?];
        let mut hidden = vec![];
        for i in 0..c.dynlayers {
            let width = if i == 0 { c.deter + 3 * c.hidden * c.blocks } else { c.deter };
            let linear = BlockLinear::new(&scope.sub(&format!("dynhid{i}")), &style, width, c.deter, c.blocks)?;
            hidden.push((linear, Norm::new(&scope.sub(&format!("dynhid{i}norm")), &style, c.deter)?));
        }
        let core = if c.dynlayers == 0 { c.deter + 3 * c.hidden * c.blocks } else { c.deter };
        let seen = if c.absolute { tokens } else { c.deter + tokens };
        let posterior = Mlp::named(scope, &style, "obs", [seen, c.hidden, c.obslayers])?;
        let prior = Mlp::named(scope, &style, "prior", [c.deter, c.hidden, c.imglayers])?;
        Ok(Self {
            stoch: c.stoch,
            classes: c.classes,
            blocks: c.blocks,
            unimix: c.unimix as f32,
            absolute: c.absolute,
            precision,
            inputs,
            hidden,
            gates: BlockLinear::new(&scope.sub("dyngru"), &style, core, 3 * c.deter, c.blocks)?,
            posterior_logits: Linear::new(&scope.sub("obslogit"), &style, posterior.width(), latent, c.outscale)?,
            posterior,
            prior_logits: Linear::new(&scope.sub("priorlogit"), &style, prior.width(), latent, c.outscale)?,
            prior,
        })
    }

    pub(super) fn parts(&self) -> Parts<'_> {
        Parts {
            stoch: self.stoch,
            classes: self.classes,
            unimix: self.unimix,
            precision: self.precision,
            inputs: &self.inputs,
            hidden: &self.hidden,
            gates: &self.gates,
            absolute: self.absolute,
            posterior: (&self.posterior, &self.posterior_logits),
            prior: (&self.prior, &self.prior_logits),
        }
    }

    /// One observed step: the state masked where an episode begins (`keep` [N, 1] is 0), the embedded action [N, A] already
    /// masked, tokens [N, W]. Returns the new state and the posterior's raw logits [N, stoch, classes].
    pub fn observe(
        &self,
        state: &State,
        action: &Tensor,
        tokens: &Tensor,
        keep: &Tensor,
        draws: &mut dyn Draws,
    ) -> Result<(State, Tensor)> {
        let deter = self.core(&state.masked(keep)?, action)?;
        let x = if self.absolute { tokens.clone() } else { Tensor::cat(&[&deter, tokens], 1)? };
        let logits = self.logits(&self.posterior_logits, &self.posterior.forward(&x)?)?;
        let stoch = self.sample(&logits, draws)?;
        Ok((State { deter, stoch }, logits))
    }

    /// One imagined step.
    pub fn imagine(&self, state: &State, action: &Tensor, draws: &mut dyn Draws) -> Result<State> {
        let deter = self.core(state, action)?;
        let stoch = self.sample(&self.prior(&deter)?, draws)?;
        Ok(State { deter, stoch })
    }

    /// Raw logits of the prior, [.., stoch, classes], from deter [.., D].
    pub fn prior(&self, deter: &Tensor) -> Result<Tensor> {
        self.logits(&self.prior_logits, &self.prior.forward(deter)?)
    }

    fn core(&self, state: &State, action: &Tensor) -> Result<Tensor> {
        let deter = &state.deter;
        let (rows, width) = deter.dims2()?;
        let parts = [deter, &state.stoch.flatten_from(1)?, &self.precision.rounded(action)?];
        let embed = |(x, (linear, norm)): (&Tensor, &(Linear, Norm))| norm.forward(&linear.forward(x)?);
        let embedded = parts.into_iter().zip(&self.inputs).map(embed).collect::<Result<Vec<_>>>()?;
        let shared = Tensor::cat(&embedded, 1)?.unsqueeze(1)?;
        let shared = shared.broadcast_as((rows, self.blocks, shared.dim(2)?))?;
        let grouped = deter.reshape((rows, self.blocks, width / self.blocks))?;
        let x = Tensor::cat(&[&grouped, &shared.contiguous()?], 2)?.flatten_from(1)?;
        let hidden = |x: Tensor, (linear, norm): &(BlockLinear, Norm)| norm.forward(&linear.forward(&x)?);
        gru(&self.gates.forward(&self.hidden.iter().try_fold(x, hidden)?)?, deter, self.blocks, self.precision)
    }

    fn logits(&self, head: &Linear, x: &Tensor) -> Result<Tensor> {
        let logits = head.forward(x)?;
        let mut shape = logits.dims().to_vec();
        shape.pop();
        shape.extend([self.stoch, self.classes]);
        logits.reshape(shape)
    }

    fn sample(&self, logits: &Tensor, draws: &mut dyn Draws) -> Result<Tensor> {
        one_hot_sample(logits, self.unimix, &draws.gumbel(logits.dims()))
    }
}
