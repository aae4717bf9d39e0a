//! Frozen parameters: out of the optimizer's reach, never written, proven by digest.

use super::*;

/// A frozen encoder below a trainable head.
fn frozen() -> Params<Run> {
    let params = Params::<Create>::new(0);
    params.put(tree(&[("enc/vit/a", &[1.0, 2.0]), ("enc/vit/b", &[3.0]), ("head", &[4.0])]), "").unwrap();
    params.set_source("enc/vit", "vit.safetensors").unwrap();
    params.freeze("enc/vit").unwrap();
    params.seal().unwrap()
}

#[test]
fn the_optimizer_receives_trainable_handles_only() {
    let paths: Vec<String> = frozen().trainable().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["head"]);
}

#[test]
fn a_pattern_that_matches_nothing_lists_what_exists() {
    let params = Params::<Create>::new(0);
    params.put(tree(&[("enc/vit/a", &[1.0]), ("head/w", &[1.0])]), "").unwrap();
    let text = params.freeze("enc/vti").unwrap_err().to_string();
    assert!(text.contains("enc/vti") && text.contains("enc/vit") && text.contains("head"), "{text}");
    assert!(matches!(params.freeze("enc/("), Err(ParamError::Pattern { .. })));
}

#[test]
fn freezing_by_regex_covers_parameters_created_later() {
    let params = Params::<Create>::new(0);
    params.get("a/bias", &[1], Init::Zeros).unwrap();
    params.freeze(".*/bias$").unwrap();
    params.get("b/bias", &[1], Init::Zeros).unwrap();
    params.get("b/kernel", &[1], Init::Zeros).unwrap();
    let paths: Vec<String> = params.seal().unwrap().trainable().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["b/kernel"]);
}

#[test]
fn writes_to_frozen_parameters_are_refused_whole() {
    let params = frozen();
    assert!(matches!(params.set("enc/vit/b", &array(&[0.0])), Err(ParamError::Frozen { path }) if path == "enc/vit/b"));
    let both = tree(&[("enc/vit/b", &[0.0]), ("head", &[0.0])]);
    assert!(params.set_all(&both).is_err());
    assert_eq!(params.find("head").unwrap(), tree(&[("head", &[4.0])]));
}

#[test]
fn frozen_is_read_and_never_modified_while_the_head_trains() {
    let params = frozen();
    let ((), trace) = params
        .trace(|| {
            params.weight("enc/vit/a", &[2], Init::Zeros).unwrap();
            params.trainable().iter().for_each(|(_, var)| var.set(&var.zeros_like().unwrap()).unwrap());
        })
        .unwrap();
    assert!(trace.read.contains("enc/vit/a"));
    assert_eq!(trace.modified, ["head".to_string()].into());
    assert!(params.verify().unwrap().iter().all(FrozenReport::holds));
}

#[test]
fn one_changed_value_shows_in_the_digest() {
    let params = frozen();
    let Weight::Var(leaked) = params.lookup("enc/vit/b").unwrap() else { panic!("a variable") };
    leaked.set(&(leaked.as_tensor() + 1e-6).unwrap()).unwrap();
    let reports = params.verify().unwrap();
    assert_eq!(reports.len(), 1);
    assert!(!reports[0].holds());
    assert_eq!(reports[0].changed, ["enc/vit/b"]);
    assert_eq!((reports[0].source.as_str(), reports[0].bytes), ("vit.safetensors", 12));
    assert_eq!(reports[0].recorded, frozen().digest("enc/vit").unwrap());
}

#[test]
fn records_of_a_checkpoint_are_compared_with_another_process() {
    let records = frozen().frozen().to_vec();
    assert!(frozen().verify_against(&records).unwrap()[0].holds());
    let other = sealed(&[("enc/vit/a", &[1.0, 2.5]), ("enc/vit/b", &[3.0])]);
    assert!(!other.verify_against(&records).unwrap()[0].holds());
}
