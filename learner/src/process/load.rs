//! A run from its folder: config, spaces, frozen encoder, agent, replay, counters.

use std::path::Path;

use actor::agent_spaces;
use actor::env::make;
use candle_core::Device;
use shared::array::DType;
use shared::config::{Config, VitConfig};
use shared::dreamer::Acting;
use shared::dreamer::inputs::is_features;
use shared::env::{Space, Spaces};
use shared::metrics::{ModuleRow, StartReport, VitReport};
use shared::params::{Count, Params, Tree, Weight, fingerprint};
use shared::vit::{PREFIX, VitSpec, fixed_size, trainable_blocks, whole_patches};
use shared::wire::Welcome;

use super::Args;
use crate::RunError;
use crate::agent::{Agent, Origin};
use crate::calibrate;
use crate::checkpoint::{self, Checkpoints, Counters, Cut, Frozen};
use crate::evaluation::can_film;
use crate::frozen::Trunk;
use crate::ingest::ended;
use crate::journal::{self, Entry, Journal};
use crate::limiter::{Limiter, LimiterState, Limits};
use crate::offline;
use crate::proof::check_frozen;
use crate::replay::{Damaged, Forecast, Replay, ReplayError, Sampled};
use crate::run::{Parts, Run};

/// A run that is ready to go on.
pub struct Loaded {
    /// What its threads share.
    pub run: Run,
    /// What its train thread owns.
    pub agent: Agent,
    /// Batches drawn but not trained on.
    pub pending: Vec<Sampled>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// Spaces of a run.
pub struct RunSpaces {
    /// What environments return.
    pub env: Spaces,
    /// What the agent sees.
    pub agent: Spaces,
    /// What it does.
    pub act: Spaces,
}

impl RunSpaces {
    /// As the config's environment has them, and the ViT through which the agent sees images, given what a checkpoint `recorded`
    /// of it.
    pub fn through(config: &Config, run: &Path, recorded: Option<&Frozen>) -> Result<(Self, Option<Trunk>), RunError> {
        let (env, act) = Self::of_env(config)?;
        // What a task that is not built in shows is known only now.
        let blind = !config.env.is_native() && !env.values().any(Space::is_image);
        let trunk = if blind { None } else { Trunk::load(config, run, recorded)? };
        let agent = agent_spaces(&env, &config.vit, trunk.as_ref().map(|trunk| &trunk.spec))?;
        Ok((Self { env, agent, act }, trunk))
    }

    /// As the config's environment has them, seen without a ViT.
    pub fn of(config: &Config) -> Result<Self, RunError> {
        let (env, act) = Self::of_env(config)?;
        Ok(Self { agent: agent_spaces(&env, &config.vit, None)?, env, act })
    }

    fn of_env(config: &Config) -> Result<(Spaces, Spaces), RunError> {
        let env = make(&config.env, config.run.seed)?;
        let obs = env.obs_space();
        if obs.values().any(Space::is_image) {
            config.check_images()?;
        }
        Ok((obs, env.act_space()))
    }
}

/// Load the run: from its newest checkpoint, or from its seed.
pub fn load(args: &Args) -> Result<Loaded, RunError> {
    let path = args.run.join("config.toml");
    let config = Config::load(&[path.to_string_lossy()], &[] as &[&str])?;
    let threads = match config.run.learner_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    // Fails only where a pool exists already, which then serves.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    let checkpoints = Checkpoints::new(&args.run, config.checkpoint.keep);
    let resumed = checkpoints.latest()?;
    let recorded = resumed.as_ref().and_then(|loaded| loaded.cut.frozen.get(PREFIX));
    let (spaces, trunk) = RunSpaces::through(&config, &args.run, recorded)?;
    if let Some(trunk) = &trunk {
        trunk.remember(&args.run)?;
    }
    let mut warnings = [config.agent.ignored(), config.replay.ignored(), config.without_units()].concat();
    if config.eval.every > 0 && config.eval.video && !can_film(&config.env)? {
        warnings.push(format!("eval.video has no effect: task `{}` draws no pictures", config.env.task));
    }
    for path in checkpoints.set_incomplete_aside()? {
        warnings.push(format!("an unfinished checkpoint was set aside as {}", path.display()));
    }
    let first = resumed.as_ref().map_or(0, |loaded| loaded.cut.journal);
    let (agent, mut rest) = match resumed {
        Some(loaded) => restore(args, &config, &spaces, trunk.as_ref(), (&checkpoints, loaded), &mut warnings)?,
        None => create(&config, &spaces, trunk.as_ref(), threads, checkpoints.replay_dir(), &mut warnings)?,
    };
    let journal = recover(args, &config, (checkpoints.replay_dir(), first), &mut rest, &mut warnings)?;
    check_acting(&config, &spaces, trunk.as_ref(), &agent.policy_params()?)?;
    let forecast = forecast(&config, &spaces);
    tracing::info!("{forecast}");
    if !forecast.fits() {
        warnings.push(forecast.to_string());
    }
    let limiter = Limiter::new(limits(&config), forecast.items, rest.limiter)?;
    let welcome = welcome(&config, &spaces, trunk.as_ref(), &agent)?;
    let (dir, token) = (args.run.clone(), args.token.clone());
    let Rest { replay, counters, .. } = rest;
    let parts = Parts { config, dir, token, before: args.before, welcome, trunk, replay, journal, limiter, counters };
    Ok(Loaded { run: Run::new(parts), agent, pending: rest.pending, warnings })
}

/// What a checkpoint gives beside the agent.
struct Rest {
    replay: Replay,
    counters: Counters,
    limiter: LimiterState,
    pending: Vec<Sampled>,
}

/// From the seed.
fn create(
    config: &Config,
    spaces: &RunSpaces,
    trunk: Option<&Trunk>,
    threads: usize,
    replay_dir: &Path,
    news: &mut Vec<String>,
) -> Result<(Agent, Rest), RunError> {
    let device = shared::device::open(&config.run.learner_device)?;
    let options = config.agent_through(trunk.map(|trunk| &trunk.spec), &spaces.env)?;
    let statistics = match trunk {
        Some(trunk) => {
            let tail = options.enc.simple.tail.as_ref().map(|tail| trunk.untrained(tail)).transpose()?;
            calibrate::statistics(config, &trunk.features(&config.vit, threads)?, tail.as_ref())?
        }
        None => Tree::new(),
    };
    let pretrained = trunk.map_or_else(Tree::new, |trunk| trunk.pretrained.clone());
    let agent = Agent::new(&options, Origin { device, statistics, pretrained, ..origin(config, spaces) })?;
    let (length, context) = (config.agent.sample_length(), config.agent.replay_context);
    let replay = Replay::new(&config.replay, length, context, config.run.seed, replay_dir)?;
    let limiter = import_steps(config, spaces, trunk, threads, &replay, news)?;
    Ok((agent, Rest { replay, counters: Counters::default(), limiter, pending: Vec::new() }))
}

/// What is in replay before the first step, and which updates are due on it. Imported steps are none of the run's: they make
/// no update due but those that are asked for.
pub fn import_steps(
    config: &Config,
    spaces: &RunSpaces,
    trunk: Option<&Trunk>,
    threads: usize,
    replay: &Replay,
    news: &mut Vec<String>,
) -> Result<LimiterState, RunError> {
    if config.replay.import.is_empty() {
        return Ok(LimiterState::default());
    }
    news.extend(offline::import(config, spaces, trunk, threads, replay)?);
    let limits = limits(config);
    let due = config.replay.import_updates as f64 * limits.update as f64;
    Ok(LimiterState { open: replay.stats().items >= limits.min_items, due })
}

/// From a checkpoint.
fn restore(
    args: &Args,
    config: &Config,
    spaces: &RunSpaces,
    trunk: Option<&Trunk>,
    (checkpoints, loaded): (&Checkpoints, checkpoint::Loaded),
    warnings: &mut Vec<String>,
) -> Result<(Agent, Rest), RunError> {
    let device = shared::device::open(&config.run.learner_device)?;
    let options = config.agent_through(trunk.map(|trunk| &trunk.spec), &spaces.env)?;
    let context = config.agent.replay_context;
    let length = config.agent.sample_length();
    warnings.extend(loaded.damaged.iter().map(|damage| format!("a newer checkpoint was passed over: {damage}")));
    let dir = checkpoints.replay_dir();
    let (replay, dropped) = Replay::load(&config.replay, length, context, dir, &loaded.cut.replay, args.damaged)?;
    warnings.extend(dropped.iter().map(|damage| format!("steps were dropped: {damage}")));
    checkpoints.resumed_from(&loaded)?;
    let Cut { agent, counters, limiter, pending, frozen, .. } = loaded.cut;
    let agent = Agent::restore(&options, Origin { device, ..origin(config, spaces) }, agent)?;
    check_frozen(&agent, trunk, &frozen)?;
    Ok((agent, Rest { replay, counters, limiter, pending }))
}

/// Take from the journal what has happened since the cut, whose first file is `first`: steps that arrived, which make no updates due,
/// since the account of the cut goes on, and versions that are not to be given again.
fn recover(
    args: &Args,
    config: &Config,
    (dir, first): (&Path, u64),
    rest: &mut Rest,
    warnings: &mut Vec<String>,
) -> Result<Journal, RunError> {
    let Rest { replay, counters, limiter, .. } = rest;
    let (mut taken, mut lost, mut why) = (0, 0, None);
    let read = journal::read(dir, first, |entry| match entry {
        Entry::Version(version) => counters.version = counters.version.max(version),
        Entry::Chunk(chunk) => {
            let newest = counters.generations.entry(chunk.stream.actor).or_default();
            *newest = chunk.stream.generation.max(*newest);
            match replay.insert(&chunk).and_then(|inserted| replay.unload().map(|()| inserted)) {
                Ok(inserted) => {
                    taken += inserted.steps as u64;
                    counters.episodes += ended(&chunk, inserted.steps);
                }
                Err(error) => {
                    lost += chunk.len();
                    why.get_or_insert(error);
                }
            }
        }
    })
    .map_err(ReplayError::from)?;
    if args.damaged == Damaged::Refuse && !read.damage.is_empty() {
        return Err(ReplayError::Damaged { damage: read.damage }.into());
    }
    read.mend().map_err(ReplayError::from)?;
    warnings.extend(read.damage.iter().map(|damage| format!("steps were dropped: {damage}")));
    if let Some(why) = why {
        warnings.push(format!("{lost} steps that arrived after the checkpoint were dropped: {why}"));
    }
    if taken > 0 {
        let update = counters.updates;
        warnings.push(format!("gone on from update {update}; {taken} steps that arrived after it are in replay"));
    }
    counters.env_steps += taken;
    limiter.open |= replay.stats().items >= limits(config).min_items;
    Ok(Journal::open(dir, first).map_err(ReplayError::from)?)
}

/// Everything that acting reads must be among the parameters of a snapshot: here and not in an actor's first step.
fn check_acting(
    config: &Config,
    spaces: &RunSpaces,
    trunk: Option<&Trunk>,
    snapshot: &[(String, Weight)],
) -> Result<(), RunError> {
    let options = config.acting_through(trunk.map(|trunk| &trunk.spec), &spaces.env)?;
    Ok(Acting::new(&options, &spaces.agent, &spaces.act, &Params::only(snapshot)).map(drop)?)
}

/// What an agent of this run is restored from, on the CPU.
pub fn origin<'a>(config: &'a Config, spaces: &'a RunSpaces) -> Origin<'a> {
    Origin {
        obs: &spaces.agent,
        act: &spaces.act,
        seed: config.run.seed,
        statistics: Tree::new(),
        pretrained: Tree::new(),
        freeze: &config.run.freeze,
        device: Device::Cpu,
    }
}

fn limits(config: &Config) -> Limits {
    let agent = &config.agent;
    Limits::new(config.run.train_ratio, agent.batch_size, agent.sample_length(), agent.batch_length, config.actor.chunk)
}

/// Memory and disk of a full replay.
fn forecast(config: &Config, spaces: &RunSpaces) -> Forecast {
    let bytes = |s: &Space| s.elements() * s.dtype.size();
    let rssm = &config.agent.dynamics.rssm;
    let latents = rssm.deter * DType::F32.size() + rssm.stoch * DType::U16.size();
    let flags = 3 * DType::U8.size() + DType::F32.size();
    let stamps = 3 * DType::U64.size();
    let step: usize =
        spaces.agent.values().chain(spaces.act.values()).map(bytes).sum::<usize>() + latents + flags + stamps;
    let streams = config.actor.count * config.actor.envs;
    Forecast::new(&config.replay, step, streams, config.agent.sample_length())
}

fn welcome(config: &Config, spaces: &RunSpaces, trunk: Option<&Trunk>, agent: &Agent) -> Result<Welcome, RunError> {
    let spec = trunk.map(|trunk| serde_json::to_string(&trunk.spec)).transpose();
    let vit =
        spec.map_err(|e| RunError::Learner { message: format!("the encoder's sizes: {e}"), help: String::new() })?;
    Ok(Welcome {
        config: config.to_toml()?,
        env_obs: spaces.env.clone(),
        agent_obs: spaces.agent.clone(),
        act: spaces.act.clone(),
        layout: fingerprint(&agent.policy_params()?),
        vit,
        stored: vec![],
    })
}

/// What is told once, before the first update.
pub fn start_report(run: &Run, agent: &Agent) -> Result<StartReport, RunError> {
    let trunk = run.trunk.as_ref().filter(|trunk| trunk.record.is_some());
    let modules = modules(agent, trunk);
    let record = trunk.and_then(|trunk| trunk.record.as_ref());
    let spaces = RunSpaces {
        env: run.welcome.env_obs.clone(),
        agent: run.welcome.agent_obs.clone(),
        act: run.welcome.act.clone(),
    };
    let forecast = forecast(&run.config, &spaces);
    Ok(StartReport {
        modules,
        vit: record.zip(trunk).map(|(record, trunk)| VitReport {
            input: [input(&run.config.vit, &trunk.spec, &spaces.env), trained(&run.config.vit, trunk, &spaces)]
                .concat(),
            source: record.source.clone(),
            digest: record.digest.clone(),
        }),
        replay_steps: forecast.items as u64,
        replay_bytes: forecast.memory,
        replay_disk_bytes: forecast.disk,
        differences: run.config.differences()?,
    })
}

/// Parameters of each module; those of the ViT are in a row of their own, whether they train or not.
fn modules(agent: &Agent, trunk: Option<&Trunk>) -> Vec<ModuleRow> {
    let row = |(module, count): (String, Count)| ModuleRow {
        module,
        trainable: count.trainable as u64,
        frozen: count.frozen as u64,
    };
    let mut modules: Vec<ModuleRow> = agent.params().counts().into_iter().map(row).collect();
    let Some(trunk) = trunk else { return modules };
    let trainable = agent.trainable_paths();
    let mut vit = ModuleRow { module: PREFIX.into(), trainable: 0, frozen: 0 };
    let encoder = modules.iter_mut().find(|row| PREFIX.starts_with(&format!("{}/", row.module)));
    // What the store counts with the encoder.
    let mut counted = ModuleRow { module: String::new(), trainable: 0, frozen: 0 };
    for (path, shape, _) in trunk.spec.params() {
        let numbers = shape.iter().product::<usize>() as u64;
        let trains = trainable.contains(&format!("{PREFIX}/{path}"));
        *(if trains { &mut vit.trainable } else { &mut vit.frozen }) += numbers;
        if trunk.pretrained.contains_key(&path) {
            *(if trains { &mut counted.trainable } else { &mut counted.frozen }) += numbers;
        }
    }
    if let Some(encoder) = encoder {
        encoder.trainable -= counted.trainable;
        encoder.frozen -= counted.frozen;
    }
    modules.push(vit);
    modules
}

/// Which blocks of the ViT train, and what is recorded for them, in words; nothing if it is frozen.
fn trained(config: &VitConfig, trunk: &Trunk, spaces: &RunSpaces) -> Vec<String> {
    let blocks = trainable_blocks(config, &trunk.spec).unwrap_or_default();
    if blocks.is_empty() {
        return vec![];
    }
    let (first, last, depth) = (blocks.start, blocks.end - 1, trunk.spec.depth);
    let sentence = |(key, space): (&String, &Space)| {
        let (tokens, width) = (space.shape[0], space.shape[1]);
        let bytes = space.elements() * space.dtype.size();
        format!(
            "trains from block {first} to {last} of 0 to {}: a step records {tokens} x {width} hidden states of `{key}`, {bytes} bytes",
            depth - 1
        )
    };
    spaces.agent.iter().filter(|(_, space)| is_features(space)).map(sentence).collect()
}

/// What the ViT sees of each image, in words.
fn input(config: &VitConfig, spec: &VitSpec, observed: &Spaces) -> Vec<String> {
    let fixed = fixed_size(config, spec).unwrap_or_default();
    let sentence = |(key, space): (&String, &Space)| {
        let frame = (space.shape[0], space.shape[1]);
        let size = fixed.unwrap_or_else(|| whole_patches(frame, spec.patch));
        let why = match fixed {
            Some(_) => "vit.size",
            None => "the nearest whole patches; vit.size sets another size",
        };
        let resized =
            if size == frame { "as it is".into() } else { format!("as {} x {} pixels ({why})", size.0, size.1) };
        let (rows, cols, side) = (size.0 / spec.patch, size.1 / spec.patch, spec.patch);
        format!("sees `{key}`, {} x {}, {resized}: {rows} x {cols} patches of {side} pixels", frame.0, frame.1)
    };
    observed.iter().filter(|(_, space)| space.is_image()).map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::POLICY;

    /// A module that acting reads and that the snapshot lacks: told before any actor starts.
    #[test]
    fn what_acting_reads_must_be_in_the_snapshot_before_actors_start() {
        let config = Config::load(&["dummy"], &[] as &[&str]).unwrap();
        let spaces = RunSpaces::of(&config).unwrap();
        let agent = Agent::new(&config.agent(), origin(&config, &spaces)).unwrap();
        check_acting(&config, &spaces, None, &agent.policy_params().unwrap()).unwrap();
        for lacking in POLICY {
            let subset: Vec<&str> = POLICY.into_iter().filter(|prefix| *prefix != lacking).collect();
            let error =
                check_acting(&config, &spaces, None, &agent.params().subset(&subset).unwrap()).unwrap_err().to_string();
            assert!(error.contains(&format!("add `{lacking}` to the snapshot's subset")), "{error}");
        }
    }
}
