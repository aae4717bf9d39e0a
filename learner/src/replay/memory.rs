//! What replay will need when it is full, compared with what the machine has.

use std::fmt;

use shared::config::ReplayConfig;

/// Memory of a full replay. Its [`fmt::Display`] is the line printed at start.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Bytes of one step.
    pub step_bytes: usize,
    /// Bytes when full.
    pub bytes: u64,
    /// Items when full: `replay.size`, or fewer where the byte cap comes first.
    pub items: usize,
    /// Memory of this machine, in bytes, where it is known.
    pub machine: Option<u64>,
}

/// What a full replay of these steps needs. `streams`: environments that record at the same time; `length`: steps of one item.
pub fn expected_bytes(config: &ReplayConfig, step_bytes: usize, streams: usize, length: usize) -> Forecast {
    let cap = (config.gib * (1u64 << 30) as f64) as u64;
    // Beside the items, every stream keeps its last unfinished item and up to a block that is freed as a whole.
    let beside = streams as u64 * (length + config.chunksize) as u64;
    let steps_in_cap = cap / step_bytes.max(1) as u64;
    let items = (config.size as u64).min(steps_in_cap.saturating_sub(beside)) as usize;
    let bytes = ((config.size as u64 + beside) * step_bytes as u64).min(cap);
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text));
    Forecast { step_bytes, bytes, items, machine }
}

impl Forecast {
    /// Whether the machine has that much; true where its memory is not known.
    pub fn fits(&self) -> bool {
        self.machine.is_none_or(|machine| self.bytes <= machine)
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        write!(
            f,
            "replay: {} bytes a step, {:.2} GiB when full ({} items)",
            self.step_bytes,
            gib(self.bytes),
            self.items
        )?;
        match self.machine {
            Some(machine) if !self.fits() => write!(
                f,
                "; this machine has only {:.2} GiB: lower replay.size or replay.gib, or it will run out of memory",
                gib(machine)
            ),
            Some(machine) => write!(f, "; this machine has {:.2} GiB", gib(machine)),
            None => Ok(()),
        }
    }
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(size: usize, gib: f64) -> ReplayConfig {
        ReplayConfig {
            size,
            gib,
            online: true,
            chunksize: 100,
            fracs: Default::default(),
            prio: Default::default(),
            recexp: 1.0,
        }
    }

    #[test]
    fn the_smaller_cap_decides() {
        let by_steps = expected_bytes(&config(1000, 1.0), 1000, 2, 65);
        assert_eq!((by_steps.items, by_steps.bytes), (1000, (1000 + 2 * 165) * 1000));
        let by_bytes = expected_bytes(&config(10_000_000, 1.0), 1 << 20, 2, 65);
        assert_eq!((by_bytes.items, by_bytes.bytes), (1024 - 330, 1 << 30));
    }

    #[test]
    fn a_machine_that_is_too_small_is_named_with_the_remedy() {
        let machine = total_memory("MemTotal:        1048576 kB\nMemFree: 5 kB\n");
        assert_eq!(machine, Some(1 << 30));
        let forecast = Forecast { step_bytes: 10, bytes: 2 << 30, items: 5, machine };
        assert!(!forecast.fits());
        let line = forecast.to_string();
        assert!(line.contains("10 bytes a step") && line.contains("2.00 GiB") && line.contains("replay.gib"), "{line}");
    }
}
