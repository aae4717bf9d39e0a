//! Parameters per module of every size, against the official code's own initialisation.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use learner::dreamer::Model;
use shared::config::Config;
use shared::env::{Space, Spaces};
use shared::params::{Init, Mapped, ParamError, Region, Source, Weight};

/// Counts what is asked for, over one region of zero pages that nobody reads.
struct Counting {
    zeros: Region,
    counts: Mutex<BTreeMap<String, usize>>,
}

impl Source for Counting {
    fn weight(&self, path: &str, shape: &[usize], _: Init) -> Result<Weight, ParamError> {
        let module = path.split('/').next().unwrap().to_string();
        *self.counts.lock().unwrap().entry(module).or_default() += shape.iter().product::<usize>();
        Ok(Weight::Mapped(Mapped::new(self.zeros.clone(), 0, shape).unwrap()))
    }
}

fn counts(preset: &str, obs: &Spaces, act: &Spaces) -> [usize; 8] {
    let zeros: Region = Arc::new(memmap2::MmapMut::map_anon(1 << 30).unwrap());
    let source = Counting { zeros, counts: Mutex::default() };
    let config = Config::load(&[preset], &[] as &[&str]).unwrap();
    Model::new(&config.agent(), obs, act, &source).unwrap();
    let counts = source.counts.into_inner().unwrap();
    assert_eq!(counts.len(), 7, "{counts:?}");
    let modules = ["enc", "dyn", "dec", "rew", "con", "pol", "val"].map(|module| counts[module]);
    let mut row = [0; 8];
    row[..7].copy_from_slice(&modules);
    row[7] = modules.iter().sum();
    row
}

#[test]
fn every_size_has_the_official_number_of_parameters() {
    let image: Spaces = [("image".to_string(), Space::image(64, 64, 3))].into();
    let vector: Spaces = [("vector".to_string(), Space::vector(&[24]))].into();
    let discrete: Spaces = [("action".to_string(), Space::discrete(&[], 17))].into();
    let continuous: Spaces = [("action".to_string(), Space::bounded(&[6], -1.0, 1.0))].into();
    let vectors = [
        ("size1m", [10_112, 364_416, 51_096, 57_663, 41_153, 50_316, 66_111, 640_867]),
        ("size12m", [138_752, 5_783_040, 794_136, 721_407, 656_129, 791_052, 853_503, 9_738_019]),
    ];
    let images = [
        ("size1m", [14_304, 377_408, 80_595, 57_663, 41_153, 50_641, 66_111, 687_875]),
        ("size12m", [220_416, 5_982_464, 1_272_003, 721_407, 656_129, 792_337, 853_503, 10_498_259]),
        ("size25m", [493_824, 13_446_528, 2_857_635, 1_573_503, 1_475_713, 1_778_321, 1_869_951, 23_495_475]),
        ("size50m", [876_032, 23_892_480, 5_076_355, 2_753_279, 2_622_977, 3_157_521, 3_279_615, 41_658_259]),
        ("size100m", [1_966_848, 53_730_048, 11_413_059, 6_095_871, 5_900_545, 7_095_569, 7_278_591, 93_480_531]),
        ("size200m", [3_492_864, 95_495_168, 20_282_115, 10_749_183, 10_488_833, 12_606_481, 12_850_431, 165_965_075]),
        ("size400m", [7_850_496, 214_808_064, 45_617_283, 23_987_967, 23_597_569, 28_346_897, 28_712_703, 372_920_979]),
    ];
    for (preset, expected) in vectors {
        assert_eq!(counts(preset, &vector, &continuous), expected, "{preset}, vector");
    }
    for (preset, expected) in images {
        assert_eq!(counts(preset, &image, &discrete), expected, "{preset}, image");
    }
    assert_eq!(counts("dmc_proprio", &vector, &continuous), vectors[0].1, "dmc_proprio is size1m");
}
