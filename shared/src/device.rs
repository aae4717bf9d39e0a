//! Where the learner computes: the processor, or a GPU.

use candle_core::Device;

/// Names of [`open`].
pub const NAMES: [&str; 2] = ["cpu", "cuda"];

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Not built for it.
    #[error(
        "run.learner_device = \"cuda\" needs a lucid that was built for it; build it with \
         `cargo build --release --features cuda` where the CUDA toolkit is installed, or use \"cpu\""
    )]
    NotBuilt,
    /// No driver, or no GPU.
    #[error("run.learner_device = \"cuda\", but no GPU can be used: {reason}; see `nvidia-smi`, or use \"cpu\"")]
    NoGpu {
        /// What the driver said.
        reason: String,
    },
    /// No device has this name.
    #[error("run.learner_device = \"{name}\" is not known; use \"cpu\" or \"cuda\"")]
    Unknown {
        /// The name.
        name: String,
    },
}

/// The device of this name; `cuda` is the first GPU that the driver shows (`CUDA_VISIBLE_DEVICES`).
pub fn open(name: &str) -> Result<Device, DeviceError> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "cuda" if !cfg!(feature = "cuda") => Err(DeviceError::NotBuilt),
        "cuda" => Device::new_cuda(0).map_err(|error| DeviceError::NoGpu { reason: reason(&error) }),
        _ => Err(DeviceError::Unknown { name: name.into() }),
    }
}

/// What went wrong, without the backtrace that candle prints with it under `RUST_BACKTRACE`.
fn reason(error: &candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => reason(inner),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_devices_or_errors_that_say_what_to_do() {
        assert!(open("cpu").is_ok());
        assert!(open("gpu").is_err_and(|error| error.to_string().contains("\"gpu\" is not known")));
        match (open("cuda"), cfg!(feature = "cuda")) {
            (Ok(device), true) => assert!(device.is_cuda()),
            (Err(error), true) => {
                let message = error.to_string();
                assert!(message.contains("see `nvidia-smi`") && !message.contains('\n'), "{message}");
            }
            (opened, false) => assert!(opened.is_err_and(|error| error.to_string().contains("--features cuda"))),
        }
    }
}
