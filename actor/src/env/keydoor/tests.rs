use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Deserialize;

use super::*;
use crate::env::sample_action;

/// Recorded with MiniGrid by `tests/keydoor.py`.
const RECORDED: &str = include_str!("../../../../tests/keydoor.json");

#[derive(Deserialize)]
struct Episode {
    size: usize,
    seed: u64,
    agent: [usize; 2],
    direction: usize,
    key: [usize; 2],
    door: [usize; 2],
    /// The first view, a digit a cell.
    first: String,
    /// Action, view, direction, carrying, reward, terminated, truncated.
    steps: Vec<(usize, String, usize, u8, f32, u8, u8)>,
}

fn act(action: Move) -> Action {
    let class = Move::ALL.iter().position(|a| *a == action).unwrap();
    Action::act([("action".to_string(), Array::i32(&[], &[class as i32]))].into())
}

fn digits(step: &Step) -> String {
    step["cells"].to_f32().iter().map(|x| x.to_string()).collect()
}

fn keydoor(side: usize, view: View, seed: u64) -> KeyDoor {
    KeyDoor::new("keydoor", side, view, Observe::Vector, [64, 64], seed)
}

/// A shortest plan to the goal, with only these actions; none if there is none.
fn plan(start: &Grid, allowed: &[Move]) -> Option<Vec<Move>> {
    let mut queue = VecDeque::from([(start.clone(), Vec::new())]);
    let mut seen = BTreeSet::from([start.clone()]);
    while let Some((grid, plan)) = queue.pop_front() {
        for &action in allowed {
            let mut next = grid.clone();
            let reached = next.act(action);
            let way: Vec<_> = plan.iter().copied().chain([action]).collect();
            if reached {
                return Some(way);
            }
            if seen.insert(next.clone()) {
                queue.push_back((next, way));
            }
        }
    }
    None
}

#[test]
fn views_rewards_and_ends_are_those_of_minigrid() {
    let episodes: Vec<Episode> = serde_json::from_str(RECORDED).unwrap();
    let ends: BTreeSet<_> = episodes.iter().map(|e| e.steps.last().unwrap()).map(|s| (s.5, s.6)).collect();
    assert_eq!(ends, [(0, 0), (0, 1), (1, 0)].into(), "the recording should have all ends");
    for digit in '0'..='7' {
        assert!(episodes.iter().flat_map(|e| &e.steps).any(|s| s.1.contains(digit)), "no cell {digit} recorded");
    }
    for episode in episodes {
        let mut env = keydoor(episode.size, View::Ahead, 0);
        let grid = Grid::new(episode.size, episode.door, episode.key, episode.agent, episode.direction);
        assert_eq!(digits(&env.start_from(grid)), episode.first, "seed {}", episode.seed);
        for (t, (action, view, direction, carrying, reward, terminated, truncated)) in episode.steps.iter().enumerate()
        {
            let step = env.step(&act(Move::ALL[*action])).unwrap();
            let outcome = Outcome::of(&step);
            assert_eq!(digits(&step), *view, "seed {} step {t}", episode.seed);
            assert_eq!(step["direction"].to_f32()[0] as usize, *direction);
            assert_eq!(step["carrying"].to_f32()[0] as u8, *carrying);
            assert!((outcome.reward - reward).abs() < 1e-6, "{} instead of {reward}", outcome.reward);
            assert_eq!(outcome.is_last, *terminated + *truncated > 0);
            assert_eq!(outcome.is_terminal, *terminated == 1);
        }
    }
}

#[test]
fn every_grid_can_be_solved_and_pays_what_its_steps_leave() {
    for (side, seeds) in [(5, 200), (6, 200), (8, 200), (16, 20)] {
        for seed in 0..seeds {
            let mut env = keydoor(side, View::Full, seed);
            env.step(&Action::reset()).unwrap();
            let plan = plan(&env.grid, &Move::ALL).unwrap_or_else(|| panic!("side {side} seed {seed}: no way"));
            let last = plan.iter().map(|action| Outcome::of(&env.step(&act(*action)).unwrap())).last().unwrap();
            assert!(last.is_last && last.is_terminal);
            let expected = 1.0 - 0.9 * plan.len() as f32 / (10 * side * side) as f32;
            assert!((last.reward - expected).abs() < 1e-6, "{} {expected}", last.reward);
            assert_eq!(env.step(&act(Move::Left)).unwrap_err(), EnvError::ended("keydoor"));
        }
    }
}

#[test]
fn without_key_or_toggle_no_grid_can_be_solved() {
    for seed in 0..50 {
        let grid = Grid::random(6, &mut Xoshiro256PlusPlus::seed_from_u64(seed));
        let without = |action| Move::ALL.into_iter().filter(|a| *a != action).collect::<Vec<_>>();
        assert_eq!(plan(&grid, &without(Move::PickUp)), None, "seed {seed}");
        assert_eq!(plan(&grid, &without(Move::Toggle)), None, "seed {seed}");
    }
}

#[test]
fn the_door_opens_with_the_key_only_and_then_closes_too() {
    let mut grid = Grid::new(5, [2, 1], [1, 2], [1, 1], 0);
    let mut after = |actions: &[Move]| {
        for action in actions {
            grid.act(*action);
        }
        (grid.at([2, 1]), grid.player, grid.carrying)
    };
    assert_eq!(after(&[Move::Toggle, Move::Forward, Move::PickUp]), (Cell::Locked, [1, 1], false));
    assert_eq!(
        after(&[Move::Right, Move::Forward, Move::Toggle]),
        (Cell::Locked, [1, 1], false),
        "a key is in the way"
    );
    assert_eq!(after(&[Move::PickUp, Move::Left, Move::Forward]), (Cell::Locked, [1, 1], true));
    assert_eq!(after(&[Move::Toggle]), (Cell::Open, [1, 1], true));
    assert_eq!(after(&[Move::Toggle, Move::Forward]), (Cell::Closed, [1, 1], true));
    assert_eq!(after(&[Move::Toggle, Move::Forward]), (Cell::Open, [2, 1], true));
}

#[test]
fn episodes_are_cut_at_the_limit() {
    let mut env = keydoor(5, View::Ahead, 1);
    for _ in 0..2 {
        assert_eq!(Outcome::of(&env.step(&Action::reset()).unwrap()), Outcome::first());
        for t in 1..=250 {
            let outcome = Outcome::of(&env.step(&act(Move::Left)).unwrap());
            assert_eq!(outcome, Outcome { is_last: t == 250, ..Outcome::default() });
        }
        assert_eq!(env.step(&act(Move::Left)).unwrap_err(), EnvError::ended("keydoor"));
    }
}

#[test]
fn grids_use_all_places_that_the_rules_allow() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
    let (mut doors, mut keys, mut directions) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for _ in 0..3000 {
        let grid = Grid::random(6, &mut rng);
        let places = || (0..36).map(|i| [i % 6, i / 6]);
        let find = |cell| places().find(|at| grid.at(*at) == cell).unwrap();
        assert_eq!((find(Cell::Goal), grid.at(grid.player)), ([4, 4], Cell::Empty));
        assert!(grid.player[0] < find(Cell::Locked)[0] && find(Cell::Key)[0] < find(Cell::Locked)[0]);
        doors.insert(find(Cell::Locked));
        keys.insert(find(Cell::Key));
        directions.insert(grid.direction);
    }
    assert_eq!((doors.len(), keys.len(), directions.len()), (2 * 3, 2 * 4, 4));
}

/// Play at random, with hints so that doors are opened, and gather by what is drawn what the numbers say.
#[test]
fn states_that_differ_look_different() {
    for (side, view) in [(5, View::Ahead), (8, View::Ahead), (5, View::Full), (16, View::Full)] {
        let mut env = KeyDoor::new("keydoor", side, view, Observe::Both, [64, 64], 3);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(4);
        let (mut observed, mut drawn) = (BTreeMap::new(), BTreeMap::new());
        for _ in 0..6 {
            let mut step = env.step(&Action::reset()).unwrap();
            let plan = plan(&env.grid, &Move::ALL).unwrap();
            let detours = (0..40).map(|_| Action::act(sample_action(&env.act_space(), &mut rng))).collect::<Vec<_>>();
            for action in plan.iter().map(|action| act(*action)).chain(detours) {
                // The direction is not to be seen ahead, where up is always where the player looks.
                let direction = if view == View::Full { env.grid.direction } else { 0 };
                let numbers = (digits(&step), direction, env.grid.carrying);
                let known = observed.entry(step["image"].bytes.clone()).or_insert(numbers.clone());
                assert_eq!(*known, numbers);
                let known = drawn.entry(env.picture().unwrap().bytes).or_insert(env.grid.clone());
                assert!(View::Full.cells(known) == View::Full.cells(&env.grid) && known.carrying == env.grid.carrying);
                match env.step(&action) {
                    Ok(next) => step = next,
                    Err(_) => break, // the plan has ended the episode
                }
            }
        }
        assert!(observed.len() > 20 && drawn.len() > 20);
    }
}
