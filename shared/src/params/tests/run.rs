//! The run phase: look-ups, writes, counts, traces.

use super::*;
use crate::array::DType;

#[test]
fn nothing_is_created_after_sealing() {
    let params = sealed(&[("enc/kernel", &[1.0, 2.0])]);
    let text = params.weight("enc/kernal", &[2], Init::Zeros).unwrap_err().to_string();
    for part in ["`enc/kernal`", "run", "nearest: enc/kernel"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    assert!(matches!(params.weight("enc/kernel", &[3], Init::Zeros), Err(ParamError::Shape { .. })));
    assert_eq!(params.weight("enc/kernel", &[2], Init::Zeros).unwrap().to_vec().unwrap(), [1.0, 2.0]);
}

#[test]
fn writes_reach_handles_taken_before() {
    let params = sealed(&[("a", &[1.0])]);
    let handle = params.weight("a", &[1], Init::Zeros).unwrap();
    params.set("a", &array(&[2.0])).unwrap();
    assert_eq!(handle.to_vec().unwrap(), [2.0]);
}

#[test]
fn nothing_is_cast_behind_the_callers_back() {
    let params = sealed(&[("a", &[1.0])]);
    let error = params.set("a", &Array::zeros(DType::I32, &[1])).unwrap_err();
    assert!(matches!(&error, ParamError::Dtype { found, wanted, .. } if found == "i32" && wanted == "f32"), "{error}");
    assert_eq!(params.find("").unwrap(), tree(&[("a", &[1.0])]));
}

#[test]
fn restore_wants_exactly_the_trainable_paths() {
    let params = sealed(&[("a", &[1.0]), ("b", &[2.0])]);
    assert!(matches!(params.restore(&tree(&[("a", &[9.0])])), Err(ParamError::Keys { .. })));
    assert_eq!(params.find("").unwrap(), tree(&[("a", &[1.0]), ("b", &[2.0])]));
    let saved = params.trainable_tree().unwrap();
    params.set("a", &array(&[7.0])).unwrap();
    params.restore(&saved).unwrap();
    assert_eq!(params.trainable_tree().unwrap(), saved);
}

#[test]
fn counts_are_per_top_level_module() {
    let params = Params::<Create>::new(0);
    params.put(tree(&[("enc/vit/a", &[0.0; 4]), ("enc/mlp", &[0.0; 3]), ("dyn/gru", &[0.0; 2])]), "").unwrap();
    params.freeze("enc/vit").unwrap();
    let counts = params.seal().unwrap().counts();
    assert_eq!(counts["enc"], Count { trainable: 3, frozen: 4 });
    assert_eq!(counts["dyn"], Count { trainable: 2, frozen: 0 });
    assert_eq!(counts.len(), 2);
}

#[test]
fn a_trace_tells_read_created_and_modified_apart() {
    let params = Params::<Create>::new(0);
    params.put(tree(&[("old", &[1.0]), ("other", &[1.0])]), "").unwrap();
    let ((), trace) = params
        .trace(|| {
            params.get("old", &[1], Init::Zeros).unwrap();
            params.get("new", &[1], Init::Zeros).unwrap();
        })
        .unwrap();
    assert_eq!(trace, Trace { read: ["old".into()].into(), created: ["new".into()].into(), modified: [].into() });
}

#[test]
fn a_trace_sees_writes_through_handles() {
    let params = sealed(&[("a", &[1.0]), ("b", &[1.0]), ("c", &[1.0])]);
    let handle = params.trainable().into_iter().find(|(path, _)| path == "a").unwrap().1;
    let ((), trace) = params
        .trace(|| {
            handle.set(&handle.zeros_like().unwrap()).unwrap();
            params.set("b", &array(&[1.0])).unwrap();
        })
        .unwrap();
    assert_eq!(trace.modified, ["a".to_string(), "b".to_string()].into());
    assert_eq!(params.stop_trace().unwrap(), Trace::default());
}
