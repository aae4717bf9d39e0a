//! A run's `metrics.jsonl` and `eval.jsonl`: read, drawn, and written as numbers.
#![no_main]

use std::cell::LazyCell;

use learner::evaluation::Record;
use learner::plot::{Plot, Request};
use libfuzzer_sys::fuzz_target;
use lucid_fuzz::{Folder, plot_request, soon};

thread_local! {
    static FOLDER: LazyCell<Folder> = LazyCell::new(Folder::default);
}

fuzz_target!(|bytes: &[u8]| {
    soon(|| {
        FOLDER.with(|folder| {
            folder.put("metrics.jsonl", bytes);
            folder.put("eval.jsonl", bytes);
            let _ = Record::newest(folder.path());
            let request: Request = plot_request(folder.path());
            if let Ok(plot) = Plot::read(&request) {
                let _ = plot.svg();
            }
        });
    });
});
