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
        "cuda" => Device::new_cuda(0).map_err(|error| DeviceError::NoGpu { reason: error.to_string() }),
        _ => Err(DeviceError::Unknown { name: name.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_devices_or_errors_that_say_what_to_do() {
        assert!(open("cpu").is_ok());
        assert!(open("gpu").is_err_and(|error| error.to_string().contains("\"gpu\" is not known")));
        if !cfg!(feature = "cuda") {
            assert!(open("cuda").is_err_and(|error| error.to_string().contains("--features cuda")));
        }
    }
}
