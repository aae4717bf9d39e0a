//! What replay will need when it is full, compared with what the machine has.

use std::fmt;

use shared::config::ReplayConfig;

/// What a full replay takes. Its [`fmt::Display`] is the line printed at start.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Bytes of one step.
    pub step_bytes: usize,
    /// Memory when full, bytes.
    pub memory: u64,
    /// Disk when full, bytes; 0 where all is in memory.
    pub disk: u64,
    /// Items when full: `replay.size`, or fewer where a byte cap comes first.
    pub items: usize,
    /// Memory of this machine, in bytes, where it is known.
    pub machine: Option<u64>,
}

impl Forecast {
    /// `step_bytes`: bytes of one step; `streams`: environments that record at the same time; `length`: steps of one item.
    pub fn new(config: &ReplayConfig, step_bytes: usize, streams: usize, length: usize) -> Self {
        let bytes = |gib: f64| (gib * (1u64 << 30) as f64) as u64;
        let (cap, disk_cap, step) = (bytes(config.gib), bytes(config.disk_gib), step_bytes.max(1) as u64);
        // Beside the items, every stream keeps its last unfinished item and up to a block that is freed as a whole.
        let open = streams as u64 * config.chunksize as u64;
        let beside = streams as u64 * length as u64 + open;
        let most = if disk_cap > 0 { disk_cap } else { cap };
        let items = (config.size as u64).min((most / step).saturating_sub(beside));
        let all = ((items + beside) * step).min(most);
        // On disk is all but the blocks that streams are writing.
        let (memory, disk) = if disk_cap > 0 { ((open * step).min(cap), all) } else { (all, 0) };
        let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text));
        Self { step_bytes, memory, disk, items: items as usize, machine }
    }

    /// Whether the machine has that much memory; true where that is not known.
    pub fn fits(&self) -> bool {
        self.machine.is_none_or(|machine| self.memory <= machine)
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        write!(f, "replay: {} bytes a step, {:.2} GiB", self.step_bytes, gib(self.memory))?;
        if self.disk > 0 {
            write!(f, " of memory and {:.2} GiB of disk", gib(self.disk))?;
        }
        write!(f, " when full ({} items)", self.items)?;
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
            disk_gib: 0.0,
            online: true,
            chunksize: 100,
            fracs: Default::default(),
            prio: Default::default(),
            recexp: 1.0,
            import: String::new(),
            import_updates: 0,
        }
    }

    #[test]
    fn the_smaller_cap_decides() {
        let by_steps = Forecast::new(&config(1000, 1.0), 1000, 2, 65);
        assert_eq!((by_steps.items, by_steps.memory, by_steps.disk), (1000, (1000 + 2 * 165) * 1000, 0));
        let by_bytes = Forecast::new(&config(10_000_000, 1.0), 1 << 20, 2, 65);
        assert_eq!((by_bytes.items, by_bytes.memory), (1024 - 330, 1 << 30));
        let on_disk = ReplayConfig { disk_gib: 10.0, ..config(1_000_000, 1.0) };
        let by_size = Forecast::new(&on_disk, 10_000, 2, 65);
        assert_eq!((by_size.items, by_size.disk), (1_000_000, (1_000_000 + 330) * 10_000));
        assert_eq!(by_size.memory, 2 * 100 * 10_000);
        let by_disk = Forecast::new(&on_disk, 1 << 20, 2, 65);
        assert_eq!((by_disk.items, by_disk.disk), (10 * 1024 - 330, 10 << 30));
    }

    #[test]
    fn a_machine_that_is_too_small_is_named_with_the_remedy() {
        let machine = total_memory("MemTotal:        1048576 kB\nMemFree: 5 kB\n");
        assert_eq!(machine, Some(1 << 30));
        let forecast = Forecast { step_bytes: 10, memory: 2 << 30, disk: 0, items: 5, machine };
        assert!(!forecast.fits());
        let line = forecast.to_string();
        assert!(line.contains("10 bytes a step") && line.contains("2.00 GiB") && line.contains("replay.gib"), "{line}");
    }
}
