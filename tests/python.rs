//! A Python with Gymnasium, and with the environments of the tests and the examples.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Root of the repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The Python that LUCID_PYTHON names, which must have Gymnasium, or one of a virtual environment that pip has filled, once for all
/// runs of the tests. It finds `tests/python_env` and `examples/python_env`.
pub fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let python = bare("gymnasium-venv").join("bin/python3");
        let packages = PathBuf::from(run(&python, &["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]));
        let mut folders = format!("{ROOT}/tests/python_env\n{ROOT}/examples/python_env\n");
        if let Ok(other) = std::env::var("LUCID_PYTHON") {
            folders += &run(Path::new(&other), &["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]);
        } else if !packages.join("gymnasium").exists() {
            let target = ["--target", packages.to_str().unwrap(), "gymnasium", "numpy"];
            run(Path::new("python3"), &[&["-m", "pip", "install", "--quiet", "--upgrade"], &target[..]].concat());
        }
        fs::write(packages.join("lucid.pth"), folders).unwrap();
        python.to_str().unwrap().into()
    })
}

/// A virtual environment without packages, in the folder for tests' files.
pub fn bare(name: &str) -> PathBuf {
    let base = std::env::var("LUCID_PYTHON").unwrap_or_else(|_| "python3".into());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if !folder.join("bin/python3").exists() {
        run(Path::new(&base), &["-m", "venv", "--without-pip", folder.to_str().unwrap()]);
    }
    folder
}

/// A virtual environment with these packages, which pip fills once for all runs of the tests.
pub fn filled(name: &str, packages: &[&str]) -> PathBuf {
    let folder = bare(name);
    // Written when all is there.
    let done = folder.join("packages");
    if fs::read_to_string(&done).ok() != Some(packages.join("\n")) {
        let lib = fs::read_dir(folder.join("lib")).unwrap().next().unwrap().unwrap().path();
        let target = lib.join("site-packages");
        let pip = ["-m", "pip", "install", "--quiet", "--upgrade", "--target", target.to_str().unwrap()];
        run(Path::new("python3"), &[&pip[..], packages].concat());
        fs::write(done, packages.join("\n")).unwrap();
    }
    folder
}

fn run(python: &Path, args: &[&str]) -> String {
    let output = Command::new(python).args(args).output().expect("Python 3 with pip");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().into()
}
