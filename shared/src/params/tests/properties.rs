//! Properties over many trees.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Modules `m0`..`m3` of parameters `p0`..`p5`, many of equal shape.
fn trees() -> impl Strategy<Value = Tree> {
    let path = (0..4u8, 0..6u8).prop_map(|(m, p)| format!("m{m}/p{p}"));
    let value = prop::collection::vec(-1e6f32..1e6, 1..4).prop_map(|values| array(&values));
    prop::collection::btree_map(path, value, 1..16)
}

fn layout_of(tree: &Tree) -> BTreeMap<&String, &Vec<usize>> {
    tree.iter().map(|(path, value)| (path, &value.shape)).collect()
}

fn created(order: &[String], values: &Tree) -> Params<Run> {
    let params = Params::<Create>::new(0);
    order.iter().for_each(|path| drop(params.get(path, &values[path].shape, Init::Zeros).unwrap()));
    params.seal().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn put_then_find_returns_the_tree(tree in trees()) {
        let params = Params::<Create>::new(0);
        params.put(tree.clone(), "enc/vit/").unwrap();
        prop_assert_eq!(params.find("enc/vit").unwrap(), tree.clone());
        prop_assert_eq!(params.seal().unwrap().find("enc").unwrap().len(), tree.len());
    }

    #[test]
    fn trees_are_restored_by_key_whatever_the_order_of_creation(
        (tree, order) in trees().prop_flat_map(|tree| {
            let keys: Vec<String> = tree.keys().cloned().collect();
            (Just(tree), Just(keys).prop_shuffle())
        })
    ) {
        let params = created(&order, &tree);
        params.restore(&tree).unwrap();
        prop_assert_eq!(params.trainable_tree().unwrap(), tree);
    }

    #[test]
    fn a_write_of_many_is_all_or_nothing(tree in trees(), at in any::<prop::sample::Index>(), kind in 0..4u8) {
        let keys: Vec<String> = tree.keys().cloned().collect();
        let victim = keys[at.index(keys.len())].clone();
        let params = Params::<Create>::new(0);
        params.put(tree.clone(), "").unwrap();
        if kind == 0 {
            params.freeze(&victim).unwrap();
        }
        let params = params.seal().unwrap();
        let mut writes: Tree = tree.keys().map(|k| (k.clone(), Array::f32(&tree[k].shape, &vec![7.5; tree[k].elements()]))).collect();
        match kind {
            0 => {}
            1 => drop(writes.insert(victim, Array::f32(&[9], &[0.0; 9]))),
            2 => drop(writes.insert(victim.clone(), Array::i32(&tree[&victim].shape, &vec![0; tree[&victim].elements()]))),
            _ => drop(writes.insert("m9/unknown".to_string(), array(&[0.0]))),
        }
        prop_assert!(params.set_all(&writes).is_err());
        prop_assert_eq!(params.find("").unwrap(), tree);
    }

    #[test]
    fn get_never_overwrites(tree in trees()) {
        let params = Params::<Create>::new(0);
        params.put(tree.clone(), "").unwrap();
        for (path, value) in &tree {
            let weight = params.get(path, &value.shape, Init::Ones).unwrap();
            prop_assert_eq!(weight.to_vec().unwrap(), value.to_f32());
        }
        prop_assert_eq!(params.find("").unwrap(), tree);
    }

    #[test]
    fn a_subset_is_what_lies_below_its_prefixes(tree in trees(), one in 0..4u8, two in 0..4u8) {
        let params = Params::<Create>::new(0);
        params.put(tree.clone(), "").unwrap();
        let wanted: Vec<&String> =
            tree.keys().filter(|k| [one, two].iter().any(|m| k.starts_with(&format!("m{m}/")))).collect();
        let exists = |m: u8| tree.keys().any(|k| k.starts_with(&format!("m{m}/")));
        match params.subset(&[format!("m{one}/"), format!("m{two}")]) {
            Ok(found) => prop_assert_eq!(found.iter().map(|(path, _)| path).collect::<Vec<_>>(), wanted),
            Err(error) => prop_assert!(!exists(one) || !exists(two), "{}", error),
        }
    }

    #[test]
    fn frozen_parameters_survive_every_write(tree in trees()) {
        let params = Params::<Create>::new(0);
        params.put(tree.clone(), "").unwrap();
        params.freeze(".*/p[0-2]").unwrap_or_default();
        let params = params.seal().unwrap();
        for (path, value) in &tree {
            let written = params.set(path, &Array::zeros(value.dtype, &value.shape)).is_ok();
            let trainable = params.trainable().iter().any(|(p, _)| p == path);
            prop_assert_eq!(written, trainable);
        }
        prop_assert!(params.verify().unwrap().iter().all(FrozenReport::holds));
    }

    #[test]
    fn the_fingerprint_changes_exactly_with_the_layout(a in trees(), b in trees()) {
        let print = |tree: &Tree| {
            let params = Params::<Create>::new(0);
            params.put(tree.clone(), "").unwrap();
            let mut listed = params.subset(&[""]).unwrap();
            listed.reverse();
            assert_eq!(fingerprint(&listed), params.fingerprint(&[""]).unwrap());
            fingerprint(&listed)
        };
        prop_assert_eq!(print(&a) == print(&b), layout_of(&a) == layout_of(&b));
        let other: Tree = a.iter().map(|(k, v)| (k.clone(), Array::zeros(v.dtype, &v.shape))).collect();
        prop_assert_eq!(print(&a), print(&other));
    }
}
