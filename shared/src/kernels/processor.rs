//! What the kernels may use of this processor.

use std::sync::LazyLock;

/// Environment variable that keeps kernels from instructions that some processors lack, if it is `portable`: for tests of the paths
/// that those take.
const KERNELS: &str = "LUCID_KERNELS";

/// Whether kernels may use AVX-512.
pub fn avx512() -> bool {
    static ALLOWED: LazyLock<bool> = LazyLock::new(|| {
        #[cfg(target_arch = "x86_64")]
        return is_x86_feature_detected!("avx512f")
            && std::env::var_os(KERNELS).is_none_or(|kernels| kernels != "portable");
        #[cfg(not(target_arch = "x86_64"))]
        false
    });
    *ALLOWED
}
