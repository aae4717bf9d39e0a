//! Running normalisers of returns, values and advantages (official `utils.py`, Normalize).

use shared::config::NormConfig;

/// Running statistics. Which two numbers they are depends on the kind: percentiles, or mean and mean square.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Stats {
    /// Low percentile, or mean.
    pub low: f32,
    /// High percentile, or mean square.
    pub high: f32,
    /// Weight seen so far, for debiasing.
    pub corr: f32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    None,
    MeanStd,
    Percentiles,
}

/// A running offset and scale.
#[derive(Clone, Debug)]
pub struct Normalize {
    kind: Kind,
    rate: f32,
    limit: f32,
    percentiles: [f64; 2],
    debias: bool,
    /// Whether nothing changes it.
    held: bool,
    /// Running statistics; zeros at the start.
    pub stats: Stats,
}

impl Normalize {
    /// A normaliser at its start; none for an unknown kind.
    pub fn new(config: &NormConfig) -> Option<Self> {
        let kind = match config.kind.as_str() {
            "none" => Kind::None,
            "meanstd" => Kind::MeanStd,
            "perc" => Kind::Percentiles,
            _ => return None,
        };
        Some(Self {
            kind,
            rate: config.rate as f32,
            limit: config.limit as f32,
            percentiles: [config.perclo, config.perchi],
            debias: config.debias,
            held: false,
            stats: Stats { low: 0.0, high: 0.0, corr: 0.0 },
        })
    }

    /// Running statistics by their official names, as far as this kind has them.
    pub fn named(&mut self) -> Vec<(&'static str, &mut f32)> {
        let Stats { low, high, corr } = &mut self.stats;
        let mut named = match self.kind {
            Kind::None => return vec![],
            Kind::MeanStd => vec![("mean", low), ("sqrs", high)],
            Kind::Percentiles => vec![("lo", low), ("hi", high)],
        };
        if self.debias {
            named.push(("corr", corr));
        }
        named
    }

    /// A copy that stays as this one is now, whatever it is given.
    pub fn held(&self) -> Self {
        Self { held: true, ..self.clone() }
    }

    /// Take `values` into account unless it is held, then return offset and scale.
    pub fn update(&mut self, values: &[f32]) -> (f32, f32) {
        let (low, high) = match self.kind {
            _ if self.held => return self.offset_scale(),
            Kind::None => return self.offset_scale(),
            Kind::MeanStd => (mean(values.iter().copied()), mean(values.iter().map(|x| x * x))),
            Kind::Percentiles => {
                let mut sorted = values.to_vec();
                sorted.sort_by(f32::total_cmp);
                (percentile(&sorted, self.percentiles[0]), percentile(&sorted, self.percentiles[1]))
            }
        };
        let mix = |old: f32, new: f32| (1.0 - self.rate) * old + self.rate * new;
        self.stats =
            Stats { low: mix(self.stats.low, low), high: mix(self.stats.high, high), corr: mix(self.stats.corr, 1.0) };
        self.offset_scale()
    }

    /// Offset and scale as they are.
    pub fn offset_scale(&self) -> (f32, f32) {
        let corr = if self.debias { 1.0 / self.rate.max(self.stats.corr) } else { 1.0 };
        let (low, high) = (self.stats.low * corr, self.stats.high * corr);
        match self.kind {
            Kind::None => (0.0, 1.0),
            Kind::MeanStd => (low, (high - low * low).max(0.0).sqrt().max(self.limit)),
            Kind::Percentiles => (low, (high - low).max(self.limit)),
        }
    }
}

fn mean(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let count = values.len() as f64;
    (values.map(f64::from).sum::<f64>() / count) as f32
}

/// Percentile of sorted values with linear interpolation.
fn percentile(sorted: &[f32], percent: f64) -> f32 {
    let position = percent / 100.0 * (sorted.len() - 1) as f64;
    let (below, share) = (position.floor() as usize, position.fract());
    let above = (below + 1).min(sorted.len() - 1);
    (sorted[below] as f64 * (1.0 - share) + sorted[above] as f64 * share) as f32
}
