//! What the kernels may use of this processor.

use std::sync::LazyLock;

/// Environment variable for tests of other paths than this machine's own: `portable` keeps kernels from instructions that some
/// processors lack, `plain` computes with candle's tensor operations, as on a GPU.
const KERNELS: &str = "LUCID_KERNELS";

/// Whether candle's tensor operations are to be used on the CPU too.
pub fn plain() -> bool {
    static FORCED: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os(KERNELS).is_some_and(|kernels| kernels == "plain"));
    *FORCED
}

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
