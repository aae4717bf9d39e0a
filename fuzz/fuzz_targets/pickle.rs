//! Pickles: alone, as NumPy's and as PyTorch's, and behind the beginning of PyTorch's old format.
#![no_main]

use learner::pickle::{Dialect, Pickle};
use libfuzzer_sys::fuzz_target;
use lucid_fuzz::{exhaust, soon};

/// Magic number, version and facts of the machine, as PyTorch pickles them.
const BEGINNING: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00.";

fuzz_target!(|bytes: &[u8]| {
    soon(|| {
        for dialect in [Dialect::Arrays, Dialect::Tensors] {
            if let Ok(pickle) = Pickle::read_as(bytes, dialect) {
                let value = pickle.value();
                let inner = value.entries().unwrap_or_default();
                let arrays = inner.values().chain([&value]).filter_map(|value| value.array());
                arrays.for_each(|array| drop((array.to_array(), array.integer())));
            }
        }
        exhaust(bytes);
        exhaust(&[BEGINNING, bytes].concat());
    });
});
