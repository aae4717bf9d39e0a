//! A run's options as TOML; and one option that changes: its key up to the first zero byte, its value.
#![no_main]

use std::cell::LazyCell;

use libfuzzer_sys::fuzz_target;
use lucid_fuzz::soon;
use shared::config::Config;

thread_local! {
    static OPTIONS: LazyCell<Config> =
        LazyCell::new(|| Config::load(&["dummy"], &[] as &[&str]).expect("a preset of Lucid's own"));
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    soon(|| {
        let read = Config::from_toml(text);
        let changed = text.split_once('\0').map(|(key, value)| OPTIONS.with(|options| options.with(key, value)));
        for config in [Some(read), changed].into_iter().flatten().flatten() {
            let written = config.to_toml().expect("options that were read");
            let again = Config::from_toml(&written).expect("options that were written");
            assert_eq!(again.to_toml().ok(), Some(written));
        }
    });
});
