//! Values that have the right type and still cannot work.

use regex::Regex;

use crate::device;
use crate::dreamer::Choice;
use crate::kernels::Precision;
use crate::nn::{Style, StyleError};

use super::{
    AgentConfig, Config, ConfigError, DecSimpleConfig, EncSimpleConfig, NormConfig, RssmConfig, TrainableBlocks,
};

/// Problems found so far.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn need(&mut self, ok: bool, problem: impl FnOnce() -> String) {
        if !ok {
            self.0.push(problem());
        }
    }

    fn one_of(&mut self, key: &str, value: &str, known: &[&str]) {
        self.need(known.contains(&value), || format!("`{key}` is `{value}`, must be one of: {}", known.join(", ")));
    }

    fn positive(&mut self, values: &[(&str, usize)]) {
        for (key, value) in values {
            self.need(*value > 0, || format!("`{key}` is 0, must be at least 1"));
        }
    }

    fn between(&mut self, key: &str, value: f64, low: f64, high: f64) {
        self.need(value >= low && value <= high, || format!("`{key}` is {value}, must be from {low} to {high}"));
    }

    fn regex(&mut self, key: &str, pattern: &str) {
        if let Err(error) = Regex::new(pattern) {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default();
            self.0.push(format!("`{key}`: `{pattern}` is not a regular expression ({reason})"));
        }
    }
}

impl Config {
    /// See that values can work together; reports everything that is wrong at once.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut problems = Problems::default();
        self.check_run(&mut problems);
        self.check_seeing(&mut problems);
        self.check_processes(&mut problems);
        self.agent.check(&mut problems);
        if problems.0.is_empty() { Ok(()) } else { Err(ConfigError::Invalid { problems: problems.0 }) }
    }

    fn check_precision(&self, p: &mut Problems) {
        let learner = &self.run.learner_precision;
        for (key, value) in [
            ("vit.precision", &self.vit.precision),
            ("actor.precision", &self.actor.precision),
            ("run.learner_precision", learner),
        ] {
            p.one_of(key, value, &Precision::PRODUCTS);
        }
        p.need(self.run.learner_device == "cpu" || learner == "float32", || {
            format!("`run.learner_precision` is `{learner}`, must be float32 with `run.learner_device` cuda")
        });
        let activations = &self.agent.compute_dtype;
        for (key, value) in [("run.learner_precision", learner), ("actor.precision", &self.actor.precision)] {
            p.need(activations == "float32" || value == "float32", || {
                format!(
                    "`{key}` is `{value}`, must be float32 with `agent.compute_dtype` {activations}, which rounds more"
                )
            });
        }
    }

    fn check_run(&self, p: &mut Problems) {
        let endless = f64::MAX;
        p.between("run.minutes", self.run.minutes, 0.0, endless);
        p.need(self.run.train_ratio > 0.0 && self.run.train_ratio.is_finite(), || {
            format!("`run.train_ratio` is {}, must be above 0", self.run.train_ratio)
        });
        p.one_of("run.learner_device", &self.run.learner_device, &device::NAMES);
        p.need(self.run.learner_device == "cpu" || self.agent.compute_dtype == "float32", || {
            format!(
                "`agent.compute_dtype` is `{}`, must be float32 with `run.learner_device` cuda",
                self.agent.compute_dtype
            )
        });
        self.check_precision(p);
        for pattern in &self.run.freeze {
            p.regex("run.freeze", pattern);
        }
        p.between("checkpoint.every", self.checkpoint.every, 0.0, endless);
        p.between("log.every", self.log.every, 0.0, endless);
        p.between("log.report_every", self.log.report_every, 0.0, endless);
        p.between("log.heartbeat", self.log.heartbeat, 0.1, endless);
        p.positive(&[("checkpoint.keep", self.checkpoint.keep), ("log.media_keep", self.log.media_keep)]);
        p.need(!self.web.enabled || !self.web.public() || !self.web.token_file.is_empty(), || {
            format!(
                "`web.token_file` is empty, must name a file with a secret: with `web.address` {} and `web.hosts` {:?} \
                 others than the users of this machine may reach the page",
                self.web.address, self.web.hosts
            )
        });
    }

    fn check_seeing(&self, p: &mut Problems) {
        let (env, vit) = (&self.env, &self.vit);
        p.one_of("env.observe", &env.observe, &["pixels", "vector", "both"]);
        p.positive(&[("env.repeat", env.repeat), ("env.size", env.size[0]), ("env.size", env.size[1])]);
        p.one_of("vit.features", &vit.features, &["pretrained", "random", "zero"]);
        p.one_of("vit.pool", &vit.pool, &["cls", "mean", "grid", "attention"]);
        if vit.pool == "attention" {
            p.positive(&[("vit.queries", vit.queries)]);
        }
        let adapter = self.agent().enc.simple.adapter();
        shape("vit.adapter", adapter.units, [&adapter.act, &adapter.norm, &self.agent.enc.simple.winit], p);
        p.one_of("vit.decode", &vit.decode, &["features", "image", "both"]);
        p.need(vit.block >= -1, || format!("`vit.block` is {}, must be -1 (the last) or count from 0", vit.block));
        p.need(vit.reduce == 0 || vit.calibration > vit.reduce, || {
            format!("`vit.calibration` is {}, must be above `vit.reduce` ({})", vit.calibration, vit.reduce)
        });
        let trains = vit.trainable_blocks != TrainableBlocks::Last(0);
        p.need(!trains || (!vit.weights.is_empty() && vit.features != "zero"), || {
            "`vit.trainable_blocks` is not 0, which needs a ViT: `vit.weights`, and `vit.features` pretrained or random"
                .into()
        });
        let whole = |pattern: &&String| pattern.trim_end_matches('/') == crate::vit::PREFIX;
        p.need(!self.run.freeze.iter().any(|pattern| whole(&pattern)), || {
            "`run.freeze` has `enc/vit`, which is frozen without it: leave it out, with `vit.trainable_blocks` = 0"
                .into()
        });
        p.between("env.timeout", env.timeout, 0.001, 1e9);
        if env.observe != "vector" && env.is_native() {
            self.check_image(p);
        }
    }

    /// See that images can have the size that they shall have, where a task turns out to show some.
    pub fn check_images(&self) -> Result<(), ConfigError> {
        let mut problems = Problems::default();
        self.check_image(&mut problems);
        if problems.0.is_empty() { Ok(()) } else { Err(ConfigError::Invalid { problems: problems.0 }) }
    }

    /// What is left after the convolutions' halvings must be whole, and from 3 to 16 pixels wide.
    fn check_image(&self, p: &mut Problems) {
        let (enc, dec) = (&self.agent.enc.simple, &self.agent.dec.simple);
        if !self.vit.weights.is_empty() && self.vit.decode == "features" {
            return; // The ViT resizes images itself, and nothing draws any.
        }
        if enc.mults.is_empty() || dec.mults.is_empty() {
            return; // Named elsewhere.
        }
        for side in self.env.size {
            for factor in [enc.factor(), dec.factor()] {
                p.need(side.is_multiple_of(factor) && (3..=16).contains(&(side / factor)), || {
                    format!(
                        "`env.size` has {side}, must be a multiple of {factor} from {} to {} where convolutions read or \
                         draw images (with `vit.weights` empty, or `vit.decode` image or both)",
                        3 * factor,
                        16 * factor
                    )
                });
            }
        }
    }

    fn check_processes(&self, p: &mut Problems) {
        p.positive(&[
            ("actor.count", self.actor.count),
            ("actor.envs", self.actor.envs),
            ("actor.threads", self.actor.threads),
            ("actor.chunk", self.actor.chunk),
            ("replay.chunksize", self.replay.chunksize),
            ("sync.credits", self.sync.credits),
            ("eval.envs", self.eval.envs),
            ("eval.episodes", self.eval.episodes),
            ("sync.publish_every", self.sync.publish_every as usize),
        ]);
        p.one_of("eval.actions", &self.eval.actions, &Choice::NAMES);
        p.one_of("sync.max_lag_mode", &self.sync.max_lag_mode, &["hard", "soft"]);
        p.one_of("sync.mode", &self.sync.mode, &["async", "lockstep"]);
        p.need(!self.lockstep() || self.actor.count == 1, || {
            format!(
                "`sync.mode` is lockstep, which needs `actor.count` = 1 (it is {}): the order in which several actors' steps \
                 arrive is a matter of chance",
                self.actor.count
            )
        });
        let (wait_for, envs) = (self.actor.wait_for, self.actor.envs);
        p.need(wait_for == 0 || wait_for < envs, || {
            format!(
                "`actor.wait_for` is {wait_for}, must be 0 (all environments step together) or less than `actor.envs` ({envs})"
            )
        });
        p.need(!self.lockstep() || wait_for == 0, || {
            format!(
                "`sync.mode` is lockstep, which needs `actor.wait_for` = 0 (it is {wait_for}): which environments are ready first \
                 is a matter of chance"
            )
        });
        let (lag, every) = (self.sync.max_lag_updates, self.sync.publish_every);
        p.need(lag == 0 || lag >= every, || {
            format!(
                "`sync.max_lag_updates` is {lag}, must be 0 (no limit) or at least `sync.publish_every` ({every}): otherwise \
                 actors and learner wait for each other between two published snapshots"
            )
        });
        let fracs = &self.replay.fracs;
        for (key, share) in [("uniform", fracs.uniform), ("recency", fracs.recency), ("priority", fracs.priority)] {
            p.between(&format!("replay.fracs.{key}"), share, 0.0, 1.0);
        }
        let sum = fracs.uniform + fracs.recency + fracs.priority;
        p.need((sum - 1.0).abs() < 1e-9, || format!("`replay.fracs` sum to {sum}, must sum to 1"));
        let prio = &self.replay.prio;
        p.between("replay.prio.exponent", prio.exponent, 0.0, 100.0);
        p.between("replay.prio.maxfrac", prio.maxfrac, 0.0, 1.0);
        p.between("replay.prio.initial", prio.initial, 0.0, f64::INFINITY);
        p.need(prio.maxfrac < 1.0 || prio.initial.is_finite(), || {
            "`replay.prio.maxfrac` is 1, must be below 1 where `replay.prio.initial` is inf".into()
        });
        p.need(self.replay.import_updates == 0 || !self.replay.import.is_empty(), || {
            format!(
                "`replay.import_updates` is {}, must be 0 unless `replay.import` names a folder to import",
                self.replay.import_updates
            )
        });
        p.between("replay.recexp", self.replay.recexp, 0.0, 100.0);
        p.need(self.replay.disk_gib >= 0.0, || {
            format!("`replay.disk_gib` is {}, must not be below 0", self.replay.disk_gib)
        });
        p.need(self.replay.gib > 0.0, || format!("`replay.gib` is {}, must be above 0", self.replay.gib));
        p.between("sync.join_timeout", self.sync.join_timeout, 1.0, f64::MAX);
        p.between("sync.silence_timeout", self.sync.silence_timeout, 1.0, f64::MAX);
        let sample = self.agent.sample_length();
        p.need(self.replay.size >= sample, || {
            format!("`replay.size` is {}, must hold one sample of {sample} steps", self.replay.size)
        });
    }
}

impl AgentConfig {
    fn check(&self, p: &mut Problems) {
        p.positive(&[
            ("agent.batch_size", self.batch_size),
            ("agent.batch_length", self.batch_length),
            ("agent.consec_train", self.consec_train),
            ("agent.imag_length", self.imag_length),
        ]);
        p.need(!self.report || self.report_length > 1, || {
            format!(
                "`agent.report_length` is {}, must be at least 2: steps that are seen, and steps that are predicted",
                self.report_length
            )
        });
        p.need(self.imag_last <= self.batch_length, || {
            format!(
                "`agent.imag_last` is {}, must be at most `agent.batch_length` ({})",
                self.imag_last, self.batch_length
            )
        });
        p.need(self.horizon > 1.0, || format!("`agent.horizon` is {}, must be above 1", self.horizon));
        p.one_of("agent.policy_dist_disc", &self.policy_dist_disc, &["categorical"]);
        p.one_of("agent.policy_dist_cont", &self.policy_dist_cont, &["bounded_normal"]);
        p.one_of("agent.compute_dtype", &self.compute_dtype, &Precision::ACTIVATIONS);
        p.one_of("agent.dyn.typ", &self.dynamics.typ, &["rssm"]);
        p.one_of("agent.enc.typ", &self.enc.typ, &["simple"]);
        p.one_of("agent.dec.typ", &self.dec.typ, &["simple"]);
        self.check_opt(p);
        self.dynamics.rssm.check(p);
        self.enc.simple.check(p);
        self.dec.simple.check(self.dynamics.rssm.deter, p);
        self.check_heads(p);
        for (name, norm) in [("retnorm", &self.retnorm), ("valnorm", &self.valnorm), ("advnorm", &self.advnorm)] {
            norm.check(name, p);
        }
        for (loss, scale) in &self.loss_scales {
            p.between(&format!("agent.loss_scales.{loss}"), *scale, 0.0, f64::MAX);
        }
        let rate = self.slowvalue.rate;
        p.need(rate == 1.0 || (0.0..0.5).contains(&rate), || {
            format!("`agent.slowvalue.rate` is {rate}, must be 1 or from 0 to below 0.5")
        });
        p.positive(&[("agent.slowvalue.every", self.slowvalue.every as usize)]);
        p.between("agent.imag_loss.lam", self.imag_loss.lam, 0.0, 1.0);
        p.between("agent.repl_loss.lam", self.repl_loss.lam, 0.0, 1.0);
    }

    fn check_opt(&self, p: &mut Problems) {
        let opt = &self.opt;
        p.between("agent.opt.lr", opt.lr, 0.0, 1.0);
        p.between("agent.opt.agc", opt.agc, 0.0, f64::MAX);
        p.between("agent.opt.eps", opt.eps, 0.0, 1.0);
        p.between("agent.opt.beta1", opt.beta1, 0.0, 0.999_999);
        p.between("agent.opt.beta2", opt.beta2, 0.0, 0.999_999_9);
        p.between("agent.opt.wd", opt.wd, 0.0, f64::MAX);
        p.regex("agent.opt.wdregex", &opt.wdregex);
        p.one_of("agent.opt.schedule", &opt.schedule, &["const", "linear", "cosine"]);
        p.need(opt.schedule == "const" || opt.anneal > opt.warmup, || {
            format!(
                "`agent.opt.anneal` is {}, must be above `agent.opt.warmup` ({}) with a schedule other than const",
                opt.anneal, opt.warmup
            )
        });
    }

    fn check_heads(&self, p: &mut Problems) {
        let heads = [
            ("rewhead", &self.rewhead, "symexp_twohot"),
            ("conhead", &self.conhead, "binary"),
            ("value", &self.value, "symexp_twohot"),
        ];
        for (name, head, output) in heads {
            let key = |field: &str| format!("agent.{name}.{field}");
            shape(&format!("agent.{name}"), head.units, [&head.act, &head.norm, &head.winit], p);
            p.one_of(&key("output"), &head.output, &[output]);
            let bins = head.bins.unwrap_or(0);
            p.need(head.output != "symexp_twohot" || bins > 2, || {
                format!("`{}` is {bins}, must be at least 3", key("bins"))
            });
        }
        let policy = &self.policy;
        shape("agent.policy", policy.units, [&policy.act, &policy.norm, &policy.winit], p);
        p.need(policy.minstd > 0.0 && policy.minstd <= policy.maxstd, || {
            format!(
                "`agent.policy.minstd` is {}, must be above 0 and at most maxstd ({})",
                policy.minstd, policy.maxstd
            )
        });
    }
}

/// What every network part has: units, activation, normalisation, initialiser.
fn shape(part: &str, units: usize, [act, norm, winit]: [&str; 3], p: &mut Problems) {
    p.need(units > 0, || format!("`{part}.units` is 0, must be at least 1"));
    if let Err(error) = Style::new(act, norm, winit) {
        let StyleError { option, name, known } = error;
        p.0.push(format!("`{part}.{option}` is `{name}`, must be one of: {known}"));
    }
}

impl RssmConfig {
    fn check(&self, p: &mut Problems) {
        p.positive(&[
            ("agent.dyn.rssm.deter", self.deter),
            ("agent.dyn.rssm.hidden", self.hidden),
            ("agent.dyn.rssm.stoch", self.stoch),
            ("agent.dyn.rssm.classes", self.classes),
            ("agent.dyn.rssm.blocks", self.blocks),
            ("agent.dyn.rssm.imglayers", self.imglayers),
            ("agent.dyn.rssm.obslayers", self.obslayers),
            ("agent.dyn.rssm.dynlayers", self.dynlayers),
        ]);
        divisible("agent.dyn.rssm.deter", self.deter, "agent.dyn.rssm.blocks", self.blocks, p);
        shape("agent.dyn.rssm", self.hidden, [&self.act, &self.norm, &self.winit], p);
        p.between("agent.dyn.rssm.unimix", self.unimix, 0.0, 1.0);
        p.between("agent.dyn.rssm.free_nats", self.free_nats, 0.0, f64::MAX);
    }
}

fn divisible(key: &str, value: usize, by_key: &str, by: usize, p: &mut Problems) {
    p.need(by > 0 && value.is_multiple_of(by), || {
        format!("`{key}` is {value}, must be a multiple of `{by_key}` ({by})")
    });
}

impl EncSimpleConfig {
    fn check(&self, p: &mut Problems) {
        p.positive(&[("agent.enc.simple.depth", self.depth), ("agent.enc.simple.layers", self.layers)]);
        shape("agent.enc.simple", self.units, [&self.act, &self.norm, &self.winit], p);
        convolutions("agent.enc.simple", self.kernel, &self.mults, p);
    }
}

impl DecSimpleConfig {
    fn check(&self, deter: usize, p: &mut Problems) {
        p.positive(&[("agent.dec.simple.depth", self.depth), ("agent.dec.simple.layers", self.layers)]);
        shape("agent.dec.simple", self.units, [&self.act, &self.norm, &self.winit], p);
        convolutions("agent.dec.simple", self.kernel, &self.mults, p);
        p.positive(&[("agent.dec.simple.bspace", self.bspace)]);
        divisible("agent.dyn.rssm.deter", deter, "agent.dec.simple.bspace", self.bspace, p);
        let last = self.depth * self.mults.last().copied().unwrap_or(0);
        divisible("agent.dec.simple.depth times the last of mults", last, "agent.dec.simple.bspace", self.bspace, p);
    }
}

fn convolutions(part: &str, kernel: usize, mults: &[usize], p: &mut Problems) {
    p.need(kernel % 2 == 1, || format!("`{part}.kernel` is {kernel}, must be odd"));
    p.need(!mults.is_empty() && !mults.contains(&0), || {
        format!("`{part}.mults` is {mults:?}, must be numbers from 1: one for each stage of convolutions")
    });
}

impl NormConfig {
    fn check(&self, name: &str, p: &mut Problems) {
        p.one_of(&format!("agent.{name}.impl"), &self.kind, &["none", "meanstd", "perc"]);
        p.between(&format!("agent.{name}.rate"), self.rate, 0.0, 1.0);
        p.need(self.limit > 0.0, || format!("`agent.{name}.limit` is {}, must be above 0", self.limit));
        p.between(&format!("agent.{name}.perclo"), self.perclo, 0.0, self.perchi);
        p.between(&format!("agent.{name}.perchi"), self.perchi, self.perclo, 100.0);
    }
}
